//! Snapshots over the API: etcd's backend file of this member's state at one moment, piece by piece, and its checksum.
//!
//! A thread of its own makes the file, a piece or two ahead of the client. It has read all of the state, and let go of it,
//! before the first piece is sent (`crates/snapshot`): a slow client keeps nothing of the state from being removed.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keelson_api::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use keelson_api::{Code, Error};
use keelson_snapshot::{Reading, SaveError, prepare};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::grpc::{Call, FrameError, MessageReader, Respond, Sender, Status};
use crate::member::{Member, read_error};
use crate::metrics::Metrics;
use crate::services::Method;
use crate::version;

/// Snapshots that are made and sent at a time. Each may take tens of megabytes of memory, and disk as the state has.
pub const AT_ONCE: usize = 4;
/// Bytes in a message, as etcd sends them.
const BLOB: usize = 32 << 10;
/// Bytes that are handed over at a time: a multiple of the former.
const PIECE: usize = 1 << 20;
/// Pieces that are made ahead of the client.
const AHEAD: usize = 2;
/// A client that takes nothing for so long has its stream cut off: it holds memory and disk of the store.
const STALLED: Duration = Duration::from_secs(60);

/// What the thread hands over, in this order.
enum Part {
    /// Bytes of the whole file.
    Size(u64),
    Piece(Bytes),
    /// SHA-256 of the file.
    Sum(Bytes),
}

type Parts = mpsc::Sender<Result<Part, Status>>;

pub async fn serve(member: Arc<Member>, call: &Call, mut reader: MessageReader, mut respond: Respond) -> Option<Code> {
    let _: SnapshotRequest = match reader.next().await {
        Ok(Some(request)) => request,
        Ok(None) | Err(FrameError::Gone) => return Some(Code::Canceled),
        Err(FrameError::Refused(status)) => return respond.refuse(&status),
    };
    member.metrics.received(Method::Snapshot);
    let Ok(room) = member.snapshots.clone().try_acquire_owned() else {
        let text = format!("keelson: {AT_ONCE} snapshots are being taken; try again when one of them has ended");
        return respond.refuse(&Status::new(Code::ResourceExhausted, text));
    };
    let Ok(mut sender) = respond.stream() else { return Some(Code::Canceled) };
    let (parts, made) = mpsc::channel(AHEAD);
    // The thread has a part in it: it takes memory and disk until it has noticed that its client is gone.
    let room = Arc::new(room);
    let (maker, its_room) = (member.clone(), room.clone());
    let work = move || {
        make(maker, parts);
        drop(its_room);
    };
    if let Err(e) = std::thread::Builder::new().name("snapshot".into()).spawn(work) {
        return sender.finish(Err(&Status::new(Code::Unavailable, format!("keelson: no thread for a snapshot: {e}"))));
    }
    let end = tokio::select! {
        end = send(made, &mut sender, &member.metrics) => end,
        () = member.leader_lost(call) => Err(Error::NoLeader.into()),
        () = member.stopped() => Err(Error::Stopped.into()),
    };
    match end {
        Ok(true) => sender.finish(Ok(())),
        Ok(false) => Some(Code::Canceled),
        Err(status) => sender.finish(Err(&status)),
    }
}

/// Sends what is made; false when the client has gone away.
async fn send(mut made: mpsc::Receiver<Result<Part, Status>>, sender: &mut Sender, metrics: &Metrics) -> Result<bool, Status> {
    let mut left = 0;
    loop {
        let part = tokio::select! {
            part = made.recv() => part,
            () = sender.reset() => return Ok(false),
        };
        let (mut rest, is_sum) = match part {
            // The thread has died.
            None => return Err(Error::Storage.into()),
            Some(Err(status)) => return Err(status),
            Some(Ok(Part::Size(size))) => {
                left = size;
                continue;
            }
            Some(Ok(Part::Piece(piece))) => (piece, false),
            Some(Ok(Part::Sum(sum))) => (sum, true),
        };
        while !rest.is_empty() {
            let blob = rest.split_to(rest.len().min(BLOB));
            if !is_sum {
                left -= blob.len() as u64;
            }
            let version = version::CLUSTER.to_owned();
            let message = SnapshotResponse { header: None, remaining_bytes: left, blob, version };
            match tokio::time::timeout(STALLED, sender.send(&message)).await {
                Ok(Ok(())) => metrics.sent(Method::Snapshot),
                Ok(Err(_)) | Err(_) => return Ok(false),
            }
        }
        if is_sum {
            return Ok(true);
        }
    }
}

/// Makes the file and hands it over, until nobody takes it any more.
fn make(member: Arc<Member>, parts: Parts) {
    let begun = std::time::Instant::now();
    let go_on = |reading| match reading {
        _ if parts.is_closed() => Err(SaveError::Unwanted),
        Reading::Spool(bytes) if !member.disk.has_room_for(bytes as u64) => Err(SaveError::NoRoom),
        Reading::On | Reading::Spool(_) => Ok(()),
    };
    let prepared = match prepare(&member.state, version::CLUSTER, &member.config.data_dir, go_on) {
        Ok(prepared) => prepared,
        Err(e) => {
            if !matches!(e, SaveError::Unwanted) {
                tracing::error!(error = %e, "a snapshot has failed");
            }
            // A failed send means that the client is gone; there is nobody to tell.
            let _ = parts.blocking_send(Err(refusal(e, &member)));
            return;
        }
    };
    // What follows needs nothing else of the member: it must not keep one that stops.
    let metrics = member.metrics.clone();
    drop(member);
    let (revision, total_bytes) = (prepared.revision, prepared.size());
    tracing::info!(revision, total_bytes, "sending database snapshot to client");
    if parts.blocking_send(Ok(Part::Size(total_bytes))).is_err() {
        return;
    }
    let last = match prepared.write(Pieces { bytes: BytesMut::new(), sum: Sha256::new(), parts: &parts }) {
        Ok(written) => Ok(Part::Sum(Bytes::copy_from_slice(&written.sum.finalize()))),
        // The client has gone, or the process stops.
        Err(_) if parts.is_closed() => return,
        Err(e) => {
            tracing::error!(error = %e, "a snapshot has failed");
            Err(Status::new(Code::Internal, format!("keelson: the snapshot cannot be written: {e}")))
        }
    };
    let is_whole = last.is_ok();
    metrics.upkeep.snapshot.observe(begun.elapsed().as_secs_f64());
    if parts.blocking_send(last).is_ok() && is_whole {
        tracing::info!(revision, total_bytes, took = ?begun.elapsed(), "successfully sent database snapshot to client");
    }
}

fn refusal(e: SaveError, member: &Member) -> Status {
    let data_dir = member.config.data_dir.display();
    match e {
        SaveError::State(e) => read_error(e).into(),
        SaveError::NoRoom => Status::new(
            Code::ResourceExhausted,
            format!(
                "keelson: no room for a snapshot: putting the changes in order takes about as much of {data_dir} as there is \
                 data; make room there, or take the snapshot from another member"
            ),
        ),
        SaveError::Io(e) => Status::new(
            Code::Unavailable,
            format!("keelson: a snapshot needs temporary space in {data_dir}: {e}; check that the disk is in order and has room"),
        ),
        SaveError::LongName => {
            Status::new(Code::FailedPrecondition, format!("keelson: {e}; remove it, then take the snapshot again"))
        }
        SaveError::Unwanted => Error::RequestCanceled.into(),
    }
}

/// Cuts what is written into pieces, and sums it up.
struct Pieces<'a> {
    bytes: BytesMut,
    sum: Sha256,
    parts: &'a Parts,
}

impl Pieces<'_> {
    fn hand_over(&self, piece: Bytes) -> io::Result<()> {
        self.parts.blocking_send(Ok(Part::Piece(piece))).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.sum.update(buf);
        self.bytes.extend_from_slice(buf);
        while self.bytes.len() >= PIECE {
            let piece = self.bytes.split_to(PIECE).freeze();
            self.hand_over(piece)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let rest = self.bytes.split().freeze();
        if rest.is_empty() { Ok(()) } else { self.hand_over(rest) }
    }
}
