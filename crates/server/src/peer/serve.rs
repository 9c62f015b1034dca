//! What this member does for others. Each call is let in only if it comes from a member of this
//! cluster, with the data directory that it had when it joined.

use std::sync::Arc;

use futures::StreamExt;
use h2::RecvStream;
use keelson_api::Code;
use keelson_api::keelson::peer;
use prost::Message;

use super::metadata::{DATA_GONE, REMOVED, Speaker};
use super::receive;
use super::refusals;
use crate::grpc::{Call, Encoding, FrameError, MessageReader, Respond, Status};
use crate::member::{End, Member};

/// Bytes of a message between members: a run of log entries, or a piece of a file.
const MAX_MESSAGE: usize = 64 << 20;

/// Serves one call from its path to its trailers.
pub async fn serve(member: Arc<Member>, path: &str, call: Call, body: RecvStream, mut respond: Respond) {
    let caller = match admit(&member, &call) {
        Ok(caller) => caller,
        Err(status) => {
            refusals::tell("a call of another member was refused", &status.message);
            respond.refuse(&status);
            return;
        }
    };
    let traffic = member.metrics.peers.traffic(caller.member_id);
    let reader = MessageReader::new(body, Encoding::Identity, MAX_MESSAGE).counted_by(traffic.received);
    let method = path.strip_prefix("/keelson.peer.Peer/").unwrap_or_default();
    let node = &member.node;
    let (told, by) = (&member, caller.member_id);
    match method {
        "Append" => append(&member, by, reader, respond).await,
        "Snapshot" => receive::checkpoint(&member, by, reader, respond).await,
        "Vote" => unary(&call, reader, respond, |r| async move { node.vote(r).await.map_err(failed) }).await,
        "Transfer" => unary(&call, reader, respond, |r| async move { node.take_over(r).await.map_err(failed) }).await,
        "Propose" => unary(&call, reader, respond, |r| async move { node.accept(r).await.map_err(failed) }).await,
        "ReadIndex" => {
            unary(&call, reader, respond, |_: peer::ReadIndexRequest| async { Ok(node.read_index().await) }).await;
        }
        "Lead" => unary(&call, reader, respond, |r| async { Ok(crate::lead::answer(&member, r).await) }).await,
        "Hash" => unary(&call, reader, respond, |r| async move { Ok(crate::corruption::answer(told, r).await) }).await,
        "Removed" => {
            unary(&call, reader, respond, |r: peer::RemovedRequest| async move {
                told.told_removed(r.member_id, by);
                Ok(peer::RemovedReply {})
            })
            .await;
        }
        _ => drop(respond.refuse(&Status::new(Code::Unimplemented, format!("unknown method {path}")))),
    }
}

fn failed(e: std::io::Error) -> Status {
    Status::new(Code::Unavailable, e.to_string())
}

async fn unary<Q, R, F>(call: &Call, reader: MessageReader, respond: Respond, run: impl FnOnce(Q) -> F)
where
    Q: Message + Default,
    R: Message,
    F: Future<Output = Result<R, Status>>,
{
    // The code is for the metrics of the public services.
    let _ = respond.unary(call, reader, run).await;
}

/// Checks who calls.
fn admit(member: &Member, call: &Call) -> Result<Speaker, Status> {
    let me = member.speaker();
    let caller = me.caller(&call.headers)?;
    let refused = |code, text: String| Err(Status::new(code, text));
    let id = caller.member_id;
    if !me.is_known(&call.headers) {
        // Whatever this member would say, it has forgotten what it promised.
        member.end.send_replace(Some(End::DataGone));
        let text = format!("the data of member {:x} is gone: it has another data directory than it joined with", me.member_id);
        return refused(Code::FailedPrecondition, text);
    }
    if member.state.is_removed(id) {
        return refused(REMOVED, format!("member {id:x} has been removed from the cluster"));
    }
    let first = member.book.data_dir_uuid(id);
    if !first.is_empty() && first != caller.data_dir_uuid {
        return refused(
            DATA_GONE,
            format!(
                "the data of member {id:x} is gone: it comes with another data directory than it joined with; \
             remove the member from the cluster and add it again"
            ),
        );
    }
    Ok(caller)
}

async fn append(member: &Arc<Member>, by: u64, reader: MessageReader, respond: Respond) {
    let Ok(sender) = respond.stream() else { return };
    let mut sender = sender.counted_by(member.metrics.peers.traffic(by).sent);
    let requests = futures::stream::unfold(reader, |mut reader| async move {
        match reader.next::<peer::AppendRequest>().await {
            Ok(Some(request)) => Some((Ok(request), reader)),
            Ok(None) | Err(FrameError::Gone) => None,
            Err(FrameError::Refused(status)) => Some((Err(std::io::Error::other(status.message)), reader)),
        }
    });
    let mut replies = member.node.append(requests.boxed());
    while let Some(reply) = replies.next().await {
        let sent = match reply {
            Ok(reply) => sender.send(&reply).await,
            Err(e) => {
                member.metrics.peers.receiving_failed(by);
                sender.finish(Err(&failed(e)));
                return;
            }
        };
        // The leader has gone away; what it sent is kept.
        if sent.is_err() {
            return;
        }
    }
    sender.finish(Ok(()));
}
