//! Receives a checkpoint into a folder beside the state, file by file. What arrived whole is kept when
//! the transfer breaks. Once all is there and on disk, the member starts anew with it
//! (`storage/incoming.rs`): no reader ever sees the state change under it.

use std::sync::Arc;

use keelson_api::Code;
use keelson_api::keelson::peer::{SnapshotHead, SnapshotPiece, SnapshotReply, snapshot_piece::Piece};
use keelson_storage::Incoming;

use crate::grpc::{FrameError, MessageReader, Respond, Sender, Status};
use crate::member::Member;

/// Serves one transfer, from member `by`.
pub async fn checkpoint(member: &Arc<Member>, by: u64, mut reader: MessageReader, respond: Respond) {
    let Ok(mut sender) = respond.stream() else { return };
    let transfer = member.metrics.peers.receiving_snapshot(by);
    // One at a time: they share a folder.
    let result = match member.receiving.try_lock() {
        Ok(_one) => receive(member, &mut reader, &mut sender).await,
        Err(_) => Err("another checkpoint is being received".to_owned()),
    };
    match result {
        Ok(reply) => {
            let complete = reply.complete;
            if complete {
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

async fn piece(reader: &mut MessageReader) -> Result<Option<Piece>, String> {
    match reader.next::<SnapshotPiece>().await {
        Ok(Some(SnapshotPiece { piece: Some(piece) })) => Ok(Some(piece)),
        Ok(Some(SnapshotPiece { piece: None })) => Err("an empty piece of a checkpoint".into()),
        Ok(None) => Ok(None),
        Err(FrameError::Gone) => Err("the connection was lost".into()),
        Err(FrameError::Refused(status)) => Err(status.message),
    }
}

async fn receive(member: &Arc<Member>, reader: &mut MessageReader, sender: &mut Sender) -> Result<SnapshotReply, String> {
    let Some(Piece::Head(head)) = piece(reader).await? else { return Err("a checkpoint begins with its head".into()) };
    let last = head.last.ok_or("a checkpoint without a position")?;
    match member.node.wants_checkpoint(head.vote, last).await.map_err(|e| e.to_string())? {
        Err(higher) => return Ok(SnapshotReply { higher_vote: Some(higher), ..SnapshotReply::default() }),
        // This member has got there by itself.
        Ok(false) => return Ok(SnapshotReply { complete: true, ..SnapshotReply::default() }),
        Ok(true) => {}
    }
    tracing::info!(checkpoint = head.checkpoint, index = last.index, files = head.files.len(), "receiving a checkpoint");
    let mut incoming = open(member, &head).await?;
    let wanted: Vec<String> = incoming.wanted().map(str::to_owned).collect();
    let first = SnapshotReply { wanted, ..SnapshotReply::default() };
    sender.send(&first).await.map_err(|_| "the connection was lost")?;
    while let Some(next) = piece(reader).await? {
        let Piece::Data(data) = next else { return Err("a checkpoint has one head".into()) };
        incoming = blocking(move || incoming.write(&data).map(|()| incoming)).await?;
    }
    blocking(move || incoming.complete()).await?;
    Ok(SnapshotReply { complete: true, ..SnapshotReply::default() })
}

async fn open(member: &Arc<Member>, head: &SnapshotHead) -> Result<Incoming, String> {
    let files = head.files.iter().map(|f| (f.name.clone(), f.size, f.crc32c)).collect();
    let (data_dir, name) = (member.config.data_dir.clone(), head.checkpoint.clone());
    blocking(move || Incoming::open(&data_dir, &name, files)).await
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(run).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}
