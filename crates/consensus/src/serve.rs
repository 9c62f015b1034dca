//! What other members ask of this one. Who they are has been checked by the time a call gets here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use keelson_api::keelson::peer;
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::codec;
use crate::node::Node;
use crate::propose::nothing_was_appended;
use crate::types::{Batch, Callback, Types};
use crate::wire;

/// An answer, or why there are no more.
pub type AppendOutcome = io::Result<peer::AppendReply>;

fn failed(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(e.to_string())
}

/// A batch that can be applied. One that cannot, once it is in the log, would end every member.
fn readable(batch: Bytes) -> io::Result<Batch> {
    let batch = Batch(batch);
    let (_, commands) = codec::unpack(&batch)?;
    for command in commands {
        // Keys and values stay where they are: this costs little beside the write, and only forwarded ones pay it.
        codec::decode_command(command?)?;
    }
    Ok(batch)
}

impl Node {
    /// Takes entries from a leader; one answer for each request, until one is refused.
    pub fn append(&self, requests: BoxStream<'static, io::Result<peer::AppendRequest>>) -> BoxStream<'static, AppendOutcome> {
        let heard = self.heard.clone();
        let broken = Arc::new(Mutex::new(None));
        let noted = broken.clone();
        let requests = requests
            .map(|r| r.and_then(wire::to_append_request))
            .scan((), move |(), request| std::future::ready(request.map_err(|e| *noted.lock() = Some(e)).ok()));
        let results = self.raft.stream_append(requests).map(move |result| {
            let result = result.map_err(failed)?;
            if result.is_ok() {
                heard.now();
            }
            Ok(wire::append_reply(&result))
        });
        let end = futures::stream::iter(std::iter::from_fn(move || broken.lock().take().map(Err)));
        results.chain(end).boxed()
    }

    /// Gives a vote, or says whether it would.
    pub async fn vote(&self, request: peer::VoteRequest) -> io::Result<peer::VoteReply> {
        let asked = wire::to_vote_request(&request)?;
        let response = if request.pre_vote { self.raft.pre_vote(asked).await } else { self.raft.vote(asked).await };
        response.map(|r| wire::vote_reply(&r)).map_err(failed)
    }

    /// Becomes leader if it can.
    pub async fn take_over(&self, request: peer::TransferRequest) -> io::Result<peer::TransferReply> {
        let answer = self.raft.handle_transfer_leader(wire::to_transfer_request(request)?).await.map_err(failed)?;
        let refused = answer.err().map_or_else(String::new, |e| e.to_string());
        Ok(peer::TransferReply { refused })
    }

    /// Puts a follower's batch in the log, if this member leads the term that it was meant for. An error
    /// says that nobody knows whether it is in the log.
    pub async fn accept(&self, request: peer::ProposeRequest) -> io::Result<peer::ProposeReply> {
        let Ok(batch) = readable(request.batch) else {
            let text = "commands that a member has sent to the leader cannot be read, and were not written: damaged memory, or \
                        another version; replace the member if it goes on";
            tracing::error!(text);
            return Err(failed(text));
        };
        let (done, outcome) = oneshot::channel();
        let callback = Callback::new(move |result: ClientWriteResult<Types>| {
            let outcome = match result {
                Ok(_) => Ok(true),
                Err(e) if nothing_was_appended(&e) => Ok(false),
                Err(e) => Err(failed(e)),
            };
            // The follower may have gone away.
            let _ = done.send(outcome);
        });
        self.raft.write(batch).responder(callback).with_leader(request.term).await.map_err(failed)?;
        let accepted = outcome.await.map_err(failed)??;
        Ok(peer::ProposeReply { accepted })
    }

    /// What a follower's reads have to wait for, if this member can prove that it leads.
    pub async fn read_index(&self) -> peer::ReadIndexReply {
        peer::ReadIndexReply { index: self.reads_here.prove().await.ok().flatten() }
    }

    /// Whether a checkpoint from the leader with this vote is wanted; `Err` is the newer vote that
    /// this member follows.
    pub async fn wants_checkpoint(&self, vote: Option<peer::Vote>, last: peer::LogId) -> io::Result<Result<bool, peer::Vote>> {
        let theirs = wire::to_vote(vote)?;
        if last.term > theirs.leader_id.term {
            return Err(failed("the checkpoint is newer than the leader that sends it"));
        }
        let (ours, committed) = self
            .raft
            .with_raft_state(|state| (*state.vote_ref(), state.local_committed().map_or(0, |id| id.index)))
            .await
            .map_err(failed)?;
        if theirs.partial_cmp(&ours).is_none_or(std::cmp::Ordering::is_lt) {
            return Ok(Err(wire::vote(&ours)));
        }
        self.heard.now();
        Ok(Ok(last.index > committed))
    }
}

/// When this member last heard from a leader.
#[derive(Debug)]
pub(crate) struct Heard {
    start: Instant,
    millis: AtomicU64,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), millis: AtomicU64::new(0) }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn now(&self) {
        self.millis.store(self.millis(), Ordering::Relaxed);
    }

    /// How long ago that was.
    pub(crate) fn ago(&self) -> Duration {
        Duration::from_millis(self.millis().saturating_sub(self.millis.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::format;
    use keelson_api::keelson::command::Action;
    use keelson_api::keelson::{ClusterVersion, Command};
    use prost::Message;

    use super::*;
    use crate::pending::BatchId;

    #[test]
    fn a_forwarded_batch_is_taken_only_if_each_of_its_commands_can_be_read() {
        let version = Action::ClusterVersion(ClusterVersion { version: "3.7.0".into(), format: 1 });
        let command = Command { action: Some(version), ..Command::default() };
        let sound = Bytes::from(command.encode_to_vec());
        let newer = Bytes::from(Command { format: format::newest() + 1, ..command }.encode_to_vec());
        let pack = |commands: &[Bytes]| codec::pack(BatchId { run: 1, number: 2 }, commands.iter()).0;
        let whole = pack(&[sound.clone(), sound.clone()]);
        assert_eq!(readable(whole.clone()).unwrap().0, whole);
        for bad in [
            Bytes::new(),
            whole.slice(..15),
            whole.slice(..whole.len() - 1),
            pack(&[sound.clone(), Bytes::from_static(&[0xff; 9])]),
            pack(&[sound.clone(), Bytes::new()]),
            pack(&[sound.clone(), newer]),
            pack(&[sound.slice(..sound.len() - 1)]),
        ] {
            assert!(readable(bad).is_err());
        }
    }
}
