//! What this member does for others. Each call is let in only if it comes from a member of this
//! cluster, with the data directory that it had when it joined.

use std::sync::Arc;

use futures::StreamExt;
use h2::RecvStream;
use keelson_api::keelson::peer;
use keelson_api::{Code, format};
use prost::Message;

use super::metadata::{Speaker, cluster_format};
use super::receive;
use super::refusals;
use crate::grpc::{Call, Encoding, FrameError, MAX_MESSAGE, MessageReader, Refusal, Respond, Status};
use crate::member::{End, Member};
use crate::metrics::Traffic;

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
    let traffic = traffic(&member, caller.member_id);
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

/// Counters for a caller; none for one that nobody knows, or anybody could add as many as it likes.
fn traffic(member: &Member, id: u64) -> Traffic {
    if member.book.knows(id) { member.metrics.peers.traffic(id) } else { Traffic::default() }
}

/// Checks who calls.
fn admit(member: &Member, call: &Call) -> Result<Speaker, Status> {
    let me = member.speaker();
    let caller = me.caller(&call.headers)?;
    let id = caller.member_id;
    let known = Known {
        // While it still has a vote the others may need it, to take that vote away.
        is_out: member.state.is_removed(id) && !member.node.configuration().voters.contains(&id),
        is_member: member.book.knows(id),
        first: member.book.data_dir_uuid(id),
        vouches: member.book.vouches_for(&me),
        format: member.book.cluster_format(),
    };
    let checked = known.check(&me, &caller, me.is_known(&call.headers));
    checked.and_then(|()| known.check_formats(&me, &caller, cluster_format(&call.headers))).map_err(|(end, status)| {
        if let Some(end) = end {
            member.end.send_replace(Some(end));
        }
        status
    })?;
    Ok(caller)
}

/// What the member list, as far as it is applied here, says of a caller and of this member.
struct Known {
    /// The caller has been removed.
    is_out: bool,
    /// The caller belongs to the cluster.
    is_member: bool,
    /// The data directory that the caller first came with.
    first: String,
    /// This member has the data directory that the list has for it.
    vouches: bool,
    /// The cluster's format.
    format: u32,
}

fn too_old(id: u64, understands: u32, cluster: u32) -> String {
    let advice = format::ADVICE;
    format!(
        "member {id:x} understands formats up to {understands}, and the cluster has format {cluster}; {advice} on its data directory"
    )
}

impl Known {
    /// Whether a call may be served; if not, what to answer, and whether this member has to end.
    fn check(&self, me: &Speaker, caller: &Speaker, knows_me: bool) -> Result<(), (Option<End>, Status)> {
        let id = caller.member_id;
        if self.is_out {
            let text = format!("member {id:x} has been removed from the cluster");
            return Err((None, Status::refusing(Refusal::Removed, text)));
        }
        if !self.first.is_empty() && self.first != caller.data_dir_uuid {
            let text = format!(
                "the data of member {id:x} is gone: it comes with another data directory than it joined with; \
                 remove the member from the cluster and add it again"
            );
            return Err((None, Status::refusing(Refusal::DataGone, text)));
        }
        if knows_me {
            return Ok(());
        }
        if self.vouches || !self.is_member {
            let text = format!(
                "member {id:x} knows member {:x} with another data directory than the member list has here: the data of the \
                 caller is old, or of another cluster; if it goes on, remove the caller from the cluster and add it again",
                me.member_id
            );
            return Err((None, Status::new(Code::FailedPrecondition, text)));
        }
        // Whatever this member would say, it has forgotten what it promised.
        let text = format!("the data of member {:x} is gone: it has another data directory than it joined with", me.member_id);
        Err((Some(End::DataGone), Status::new(Code::FailedPrecondition, text)))
    }

    /// As above, for a caller that says that the cluster has format `told`. Whoever does not understand the cluster's
    /// format must not be sent what is of it, nor vote.
    fn check_formats(&self, me: &Speaker, caller: &Speaker, told: u32) -> Result<(), (Option<End>, Status)> {
        if caller.format < self.format {
            return Err((None, Status::refusing(Refusal::TooOld, too_old(caller.member_id, caller.format, self.format))));
        }
        if told > me.format {
            let text = too_old(me.member_id, me.format, told);
            return Err((self.is_member.then_some(End::TooOld), Status::new(Code::FailedPrecondition, text)));
        }
        Ok(())
    }
}

async fn append(member: &Arc<Member>, by: u64, reader: MessageReader, respond: Respond) {
    let Ok(sender) = respond.stream() else { return };
    let mut sender = sender.counted_by(traffic(member, by).sent);
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
                if member.book.knows(by) {
                    member.metrics.peers.receiving_failed(by);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(member_id: u64, data_dir_uuid: &str) -> Speaker {
        Speaker { cluster_id: 1, member_id, data_dir_uuid: data_dir_uuid.into(), format: 1 }
    }

    #[test]
    fn only_a_member_of_the_cluster_can_say_that_data_is_gone_and_only_if_the_list_does_not_know_better() {
        let (me, caller) = (speaker(1, "mine"), speaker(2, "theirs"));
        let known = || Known { is_out: false, is_member: true, first: "theirs".into(), vouches: false, format: 1 };
        let check = |known: Known, knows_me| known.check(&me, &caller, knows_me);
        assert_eq!(check(known(), true), Ok(()));
        assert_eq!(check(known(), false).unwrap_err().0, Some(End::DataGone));
        for wrong in [Known { vouches: true, ..known() }, Known { is_member: false, first: String::new(), ..known() }] {
            let (end, status) = check(wrong, false).unwrap_err();
            assert_eq!((end, status.code, status.refusal), (None, Code::FailedPrecondition, None));
        }
    }

    #[test]
    fn who_does_not_understand_the_clusters_format_is_refused_whoever_calls_and_ends() {
        let speaks = |id, format| Speaker { format, ..speaker(id, "") };
        let known = |format, is_member| Known { is_out: false, is_member, first: String::new(), vouches: false, format };
        for (cluster, caller) in [(1, 1), (1, 2), (2, 2), (2, 3)] {
            assert_eq!(known(cluster, true).check_formats(&speaks(1, 2), &speaks(2, caller), cluster), Ok(()));
        }
        let (end, status) = known(2, true).check_formats(&speaks(1, 2), &speaks(2, 1), 1).unwrap_err();
        assert_eq!((end, status.refusal), (None, Some(Refusal::TooOld)));
        assert_eq!(
            status.message,
            "member 2 understands formats up to 1, and the cluster has format 2; start a newer keelson on its data directory"
        );
        let (end, status) = known(1, true).check_formats(&speaks(1, 1), &speaks(2, 2), 2).unwrap_err();
        assert_eq!((end, status.refusal), (Some(End::TooOld), None));
        assert!(status.message.starts_with("member 1 understands formats up to 1"));
        let (end, _) = known(1, false).check_formats(&speaks(1, 1), &speaks(2, 2), 2).unwrap_err();
        assert_eq!(end, None, "anybody can say so");
    }

    #[test]
    fn a_caller_that_was_removed_or_lost_its_data_is_told_so_whatever_it_knows_of_this_member() {
        let (me, caller) = (speaker(1, "mine"), speaker(2, "theirs"));
        for knows_me in [true, false] {
            let refusal = |is_out, first: &str| {
                let known = Known { is_out, is_member: true, first: first.into(), vouches: false, format: 1 };
                let (end, status) = known.check(&me, &caller, knows_me).unwrap_err();
                assert_eq!(end, None);
                status.refusal
            };
            assert_eq!(refusal(true, "theirs"), Some(Refusal::Removed));
            assert_eq!(refusal(false, "another"), Some(Refusal::DataGone));
        }
    }
}
