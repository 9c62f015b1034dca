//! Sends a checkpoint: first what is in it, then the files that the receiver has not got yet.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http::HeaderMap;
use keelson_api::keelson::peer::{LogId, SnapshotHead, SnapshotPiece, SnapshotReply, Vote, snapshot_piece::Piece};
use keelson_consensus::Checkpoint;
use tokio::io::AsyncReadExt;

use crate::grpc::{CallError, Connection, Sender};
use crate::metrics::Traffic;

const METHOD: &str = "/keelson.peer.Peer/Snapshot";
/// Bytes of a piece.
const PIECE: usize = 1 << 20;
/// Bytes per second, so that the disk and the network serve clients first.
const PACE: u64 = 64 << 20;

fn lost(e: impl std::fmt::Display) -> CallError {
    CallError::Lost(e.to_string())
}

/// Sends a checkpoint; answers once the receiver has all of it on disk, or does not want it.
pub async fn checkpoint(
    connection: &Connection,
    metadata: &HeaderMap,
    traffic: &Traffic,
    vote: Vote,
    checkpoint: &Checkpoint,
) -> Result<SnapshotReply, CallError> {
    let position = &checkpoint.position;
    let head = SnapshotHead {
        vote: Some(vote),
        checkpoint: checkpoint.name.clone(),
        last: Some(LogId { term: position.term, index: position.index }),
        files: checkpoint.files.clone(),
    };
    let (mut sender, mut answers) = connection.open(METHOD, metadata, traffic).await?;
    send(&mut sender, Piece::Head(head)).await?;
    let reply: SnapshotReply = answers.next().await?.ok_or_else(|| lost("no answer to a checkpoint"))?;
    if reply.complete || reply.higher_vote.is_some() {
        return Ok(reply);
    }
    for name in &reply.wanted {
        // Only what was offered: a name is a path here.
        if checkpoint.files.iter().any(|f| f.name == *name) {
            file(&mut sender, &checkpoint.path.join(name)).await?;
        }
    }
    sender.close();
    answers.next().await?.ok_or_else(|| lost("the receiver has not confirmed the checkpoint"))
}

async fn send(sender: &mut Sender, piece: Piece) -> Result<(), CallError> {
    sender.send(&SnapshotPiece { piece: Some(piece) }).await.map_err(|_| lost("the connection was lost"))
}

async fn file(sender: &mut Sender, path: &Path) -> Result<(), CallError> {
    let read = |e: io::Error| lost(format!("{}: {e}", path.display()));
    let mut file = tokio::fs::File::open(path).await.map_err(read)?;
    loop {
        let begun = tokio::time::Instant::now();
        let mut piece = vec![0; PIECE];
        let mut filled = 0;
        while filled < PIECE {
            match file.read(&mut piece[filled..]).await.map_err(read)? {
                0 => break,
                n => filled += n,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        piece.truncate(filled);
        send(sender, Piece::Data(Bytes::from(piece))).await?;
        let least = std::time::Duration::from_micros(filled as u64 * 1_000_000 / PACE);
        tokio::time::sleep_until(begun + least).await;
    }
}
