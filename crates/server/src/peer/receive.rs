//! Receives a checkpoint into a folder beside the state, file by file. What arrived whole is kept when
//! the transfer breaks. Once all is there and on disk, the member starts anew with it
//! (`storage/incoming.rs`): no reader ever sees the state change under it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_api::Code;
use keelson_api::keelson::peer::{SnapshotHead, SnapshotPiece, SnapshotReply, snapshot_piece::Piece};
use keelson_storage::Incoming;

use crate::grpc::{FrameError, MessageReader, Respond, Sender, Status};
use crate::member::Member;

/// How long the next piece may take. Whoever sends nothing must not keep others from sending.
const PIECE_LIMIT: Duration = Duration::from_secs(10);

/// Serves one transfer, from member `by`.
pub async fn checkpoint(member: &Arc<Member>, by: u64, mut reader: MessageReader, respond: Respond) {
    let Ok(mut sender) = respond.stream() else { return };
    let transfer = member.book.knows(by).then(|| member.metrics.peers.receiving_snapshot(by));
    // One at a time: they share a folder.
    let result = match member.receiving.try_lock() {
        Ok(_one) => receive(member, &mut reader, &mut sender).await,
        Err(_) => Err("another checkpoint is being received".to_owned()),
    };
    match result {
        Ok((reply, complete)) => {
            if let Some(transfer) = transfer.filter(|_| complete) {
                transfer.went_well();
            }
            // The leader will ask again if it has gone away.
            let _ = sender.send(&reply).await;
            sender.finish(Ok(()));
            if complete {
                member.start_anew();
            }
        }
        Err(text) => {
            tracing::warn!(error = text, "a checkpoint could not be received; it will be offered again");
            sender.finish(Err(&Status::new(Code::Unavailable, text)));
        }
    }
}

async fn piece(reader: &mut MessageReader, limit: Duration) -> Result<Option<Piece>, String> {
    let next = tokio::time::timeout(limit, reader.next::<SnapshotPiece>()).await;
    match next.map_err(|_| {
        format!("no piece of a checkpoint came within {limit:?}; the sender has stopped, or cannot be heard any more")
    })? {
        Ok(Some(SnapshotPiece { piece: Some(piece) })) => Ok(Some(piece)),
        Ok(Some(SnapshotPiece { piece: None })) => Err("an empty piece of a checkpoint".into()),
        Ok(None) => Ok(None),
        Err(FrameError::Gone) => Err("the connection was lost".into()),
        Err(FrameError::Refused(status)) => Err(status.message),
    }
}

/// The last reply, and whether a checkpoint waits to be taken now.
async fn receive(member: &Arc<Member>, reader: &mut MessageReader, sender: &mut Sender) -> Result<(SnapshotReply, bool), String> {
    let Some(Piece::Head(head)) = piece(reader, PIECE_LIMIT).await? else {
        return Err("a checkpoint begins with its head".into());
    };
    let last = head.last.ok_or("a checkpoint without a position")?;
    match member.node.wants_checkpoint(head.vote, last).await.map_err(|e| e.to_string())? {
        Err(higher) => return Ok((SnapshotReply { higher_vote: Some(higher), ..SnapshotReply::default() }, false)),
        // This member has got there by itself.
        Ok(false) => return Ok((SnapshotReply { complete: true, ..SnapshotReply::default() }, false)),
        Ok(true) => {}
    }
    tracing::info!(checkpoint = head.checkpoint, index = last.index, files = head.files.len(), "receiving a checkpoint");
    let begun = Instant::now();
    let mut incoming = open(member, &head).await?;
    let wanted: Vec<String> = incoming.wanted().map(str::to_owned).collect();
    let first = SnapshotReply { wanted, ..SnapshotReply::default() };
    sender.send(&first).await.map_err(|_| "the connection was lost")?;
    while let Some(next) = piece(reader, PIECE_LIMIT).await? {
        let Piece::Data(data) = next else { return Err("a checkpoint has one head".into()) };
        incoming = blocking(move || incoming.write(&data).map(|()| incoming)).await?;
    }
    let all_is_here = Instant::now();
    blocking(move || incoming.complete()).await?;
    member.metrics.upkeep.checkpoint_synced.observe(all_is_here.elapsed().as_secs_f64());
    member.metrics.upkeep.checkpoint_received.observe(begun.elapsed().as_secs_f64());
    Ok((SnapshotReply { complete: true, ..SnapshotReply::default() }, true))
}

async fn open(member: &Arc<Member>, head: &SnapshotHead) -> Result<Incoming, String> {
    let files = head.files.iter().map(|f| (f.name.clone(), f.size, f.crc32c)).collect();
    let (data_dir, name) = (member.config.data_dir.clone(), head.checkpoint.clone());
    blocking(move || Incoming::open(&data_dir, &name, files)).await
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(run).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::{Encoding, MAX_MESSAGE};

    #[tokio::test]
    async fn a_sender_that_sends_nothing_is_not_waited_for() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let sender = tokio::spawn(async move {
            let (mut requests, connection) = h2::client::handshake(here).await.unwrap();
            let driven = tokio::spawn(connection);
            let sent = requests.send_request(http::Request::post("http://peer/x").body(()).unwrap(), false).unwrap();
            driven.await.unwrap().unwrap();
            drop(sent);
        });
        let mut connection = h2::server::handshake(there).await.unwrap();
        let (request, _respond) = connection.accept().await.unwrap().unwrap();
        let driven = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let mut reader = MessageReader::new(request.into_body(), Encoding::Identity, MAX_MESSAGE);
        let refused = piece(&mut reader, Duration::from_millis(20)).await.unwrap_err();
        assert!(refused.contains("no piece of a checkpoint came within 20ms"), "{refused}");
        driven.abort();
        sender.abort();
    }
}
