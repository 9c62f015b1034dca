//! Answers to ranges of many keys: encoded from the rows while they are sent, a few pieces ahead of the
//! client, so that a list of any size costs the server these pieces of memory.

use bytes::Bytes;
use keelson_api::etcdserverpb::RangeResponse;
use keelson_api::{Code, Error};
use keelson_mvcc::{List, Outline, Query, ReadError};
use keelson_storage::StateBackend;
use prost::Message;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::grpc::{Pieces, Status};
use crate::member::{Member, read_error};

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the client. Each is larger where a single entry is.
const AHEAD: usize = 4;
/// Pieces that are read before others get the thread: there are few that may wait for a disk.
const RUN: usize = 16;
/// gRPC's own limit of a message.
const MAX_MESSAGE: usize = i32::MAX as usize;

/// What is left of a list after a run, and the piece for which there was no room.
type Rest = Option<(List<StateBackend>, Bytes)>;

/// The entries of a list, encoded, some pieces ahead of who takes them.
pub struct Entries(Option<Ahead>);

struct Ahead {
    pieces: mpsc::Receiver<Bytes>,
    reader: JoinHandle<Result<Rest, ReadError>>,
}

/// Reads until there is no room for another piece, so that no thread waits for a client, or for a run.
fn read(mut list: List<StateBackend>, room: &mpsc::Sender<Bytes>) -> Result<Rest, ReadError> {
    let (mut held, mut pieces) = (None, 0);
    list.read(PIECE, |piece| {
        pieces += 1;
        if pieces > RUN {
            held = Some(piece);
            return false;
        }
        match room.try_send(piece) {
            Ok(()) => true,
            Err(TrySendError::Full(piece)) => {
                held = Some(piece);
                false
            }
            Err(TrySendError::Closed(_)) => false,
        }
    })?;
    Ok(held.map(|piece| (list, piece)))
}

impl Entries {
    /// Finds out what a query comes to, and begins to read it.
    pub async fn begin(member: &Member, query: Query) -> Result<(Outline, Self), Status> {
        let state = member.state.clone();
        let (tell, told) = oneshot::channel();
        let (room, pieces) = mpsc::channel(AHEAD);
        let reader = tokio::task::spawn_blocking(move || {
            let list = state.store.list(&query)?;
            match tell.send(list.outline()) {
                Ok(()) => read(list, &room),
                Err(_) => Ok(None),
            }
        });
        match told.await {
            Ok(outline) => Ok((outline, Self(Some(Ahead { pieces, reader })))),
            Err(_) => Err(reader.await.map_err(stopped)?.map_or_else(|e| read_error(e).into(), stopped)),
        }
    }

    fn go_on(list: List<StateBackend>) -> Self {
        let (room, pieces) = mpsc::channel(AHEAD);
        Self(Some(Ahead { pieces, reader: tokio::task::spawn_blocking(move || read(list, &room)) }))
    }

    /// The next piece; empty at the end.
    pub async fn next(&mut self) -> Result<Bytes, Status> {
        let Some(ahead) = &mut self.0 else { return Ok(Bytes::new()) };
        if let Some(piece) = ahead.pieces.recv().await {
            return Ok(piece);
        }
        let rest = (&mut ahead.reader).await.map_err(stopped)?.map_err(read_error)?;
        let Some((list, piece)) = rest else {
            self.0 = None;
            return Ok(Bytes::new());
        };
        *self = Self::go_on(list);
        Ok(piece)
    }
}

/// A `RangeResponse` that is being read.
pub struct LargeRange {
    encoded_len: usize,
    /// What comes before the keys.
    head: Option<Bytes>,
    entries: Entries,
    /// What comes after the keys.
    tail: Option<Bytes>,
    /// Keys that are told, and that there are.
    keys: usize,
    count: usize,
}

fn stopped<E>(_: E) -> Status {
    Error::Stopped.into()
}

/// What a response has before its entries, and what it has after them.
pub fn ends(member: &Member, outline: &Outline) -> (Bytes, Bytes) {
    let header = member.header(outline.current_revision);
    let head = RangeResponse { header, ..RangeResponse::default() };
    let more = outline.keys < outline.count;
    let count = i64::try_from(outline.count).unwrap_or(i64::MAX);
    let tail = RangeResponse { more, count, ..RangeResponse::default() };
    (head.encode_to_vec().into(), tail.encode_to_vec().into())
}

/// Begins to read what `query` asks for.
pub async fn begin(member: &Member, query: Query) -> Result<LargeRange, Status> {
    let (outline, entries) = Entries::begin(member, query).await?;
    let (head, tail) = ends(member, &outline);
    let encoded_len = head.len() + outline.encoded_len + tail.len();
    if encoded_len > MAX_MESSAGE {
        let text = format!("grpc: trying to send message larger than max ({encoded_len} vs. {MAX_MESSAGE})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    let Outline { keys, count, .. } = outline;
    Ok(LargeRange { encoded_len, head: Some(head), entries, tail: Some(tail), keys, count })
}

impl LargeRange {
    /// Keys that are told.
    pub const fn keys(&self) -> usize {
        self.keys
    }

    /// Keys that there are.
    pub const fn count(&self) -> usize {
        self.count
    }
}

impl Pieces for LargeRange {
    fn encoded_len(&self) -> usize {
        self.encoded_len
    }

    async fn next(&mut self) -> Result<Bytes, Status> {
        if let Some(head) = self.head.take() {
            return Ok(head);
        }
        let piece = self.entries.next().await?;
        if !piece.is_empty() {
            return Ok(piece);
        }
        Ok(self.tail.take().unwrap_or_default())
    }
}
