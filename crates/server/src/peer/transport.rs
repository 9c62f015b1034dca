//! Consensus' network: calls to other members over their links.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures::StreamExt;
use http::HeaderMap;
use keelson_api::Code;
use keelson_api::keelson::peer;
use keelson_consensus::{Answer, Checkpoint, PeerError, Replies, Requests, Transport};
use parking_lot::Mutex;
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::book::Book;
use super::dial::Dialer;
use super::link::Link;
use super::metadata::Speaker;
use super::refusals;
use crate::grpc::{Answers, CallError, Connection, Refusal};
use crate::member::End;
use crate::metrics::{Metrics, Traffic};

/// Bytes that a member may need to tell its version.
const MAX_VERSION: usize = 4 << 10;

/// Calls to other members.
pub struct PeerTransport {
    me: Arc<Told>,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    dialer: Dialer,
    metrics: Arc<Metrics>,
    beside: OnceLock<Handle>,
}

/// Another member may answer that this one has to end.
struct Told {
    me: Speaker,
    book: Arc<Book>,
    end: Arc<watch::Sender<Option<End>>>,
}

/// Ends a task when its owner is gone.
struct Tied(JoinHandle<()>);

impl Drop for Tied {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Told {
    fn peer_error(&self, e: CallError) -> PeerError {
        let status = match e {
            CallError::Unsent(text) => return PeerError::Unreachable(text),
            CallError::Lost(text) => return PeerError::Lost(text),
            CallError::Refused(status) => status,
        };
        refusals::tell("another member has refused a call of this one", &status.message);
        match status.refusal {
            Some(Refusal::Removed) => drop(self.end.send_replace(Some(End::Removed))),
            Some(Refusal::DataGone) if self.book.vouches_for(&self.me) => refusals::tell(
                "another member is wrong about this one's data directory, which is the one that the member list has; if it goes \
                 on, remove that member from the cluster and add it again",
                &status.message,
            ),
            Some(Refusal::DataGone) => drop(self.end.send_replace(Some(End::DataGone))),
            Some(Refusal::TooOld) => drop(self.end.send_replace(Some(End::TooOld))),
            None => {}
        }
        // Refused before anything was looked at: by the member, or by a proxy that lets nobody in.
        let at_once = status.refusal.is_some() || matches!(status.code, Code::FailedPrecondition | Code::PermissionDenied);
        if at_once { PeerError::Unreachable(status.message) } else { PeerError::Lost(status.message) }
    }
}

impl PeerTransport {
    /// Calls as `me` to the members in `book`; `end` learns when one of them says that this member has to end.
    pub fn new(
        me: Speaker,
        book: Arc<Book>,
        dialer: Dialer,
        end: Arc<watch::Sender<Option<End>>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let me = Arc::new(Told { me, book, end });
        Self { me, links: Mutex::default(), dialer, metrics, beside: OnceLock::new() }
    }

    /// The way to a member; a new one each time to who is none, or whoever calls in made-up names leaves one behind.
    fn link(&self, to: u64) -> Arc<Link> {
        let mut links = self.links.lock();
        match links.get(&to) {
            Some(link) => link.clone(),
            None if self.me.book.knows(to) => links.entry(to).or_default().clone(),
            None => Arc::default(),
        }
    }

    /// Counters of the bytes to and from a member; none for who is none.
    fn traffic(&self, to: u64) -> Traffic {
        if self.me.book.knows(to) { self.metrics.peers.traffic(to) } else { Traffic::default() }
    }

    fn sending_failed(&self, to: u64) {
        if self.me.book.knows(to) {
            self.metrics.peers.sending_failed(to);
        }
    }

    /// Since when a member can be reached.
    pub fn up_since(&self, to: u64) -> Option<Instant> {
        self.links.lock().get(&to).and_then(|link| link.up_since())
    }

    /// What calls to a member carry.
    fn headers(&self, to: u64) -> HeaderMap {
        self.me.me.headers(to, &self.me.book.data_dir_uuid(to), self.me.book.cluster_format())
    }

    /// One question, one answer.
    pub async fn ask<R: Message + Default>(&self, to: u64, method: &str, message: &impl Message) -> Result<R, PeerError> {
        let connection = self.connection(to).await?;
        let path = format!("/keelson.peer.Peer/{method}");
        connection.call(&path, &self.headers(to), message, &self.traffic(to)).await.map_err(|e| {
            self.sending_failed(to);
            self.me.peer_error(e)
        })
    }

    /// From now on connections are made, and driven, beside consensus: whoever calls first may have a runtime that is
    /// busy with clients, and heartbeats go over the same connection. A dial also goes on when its caller gives up.
    pub fn dial_beside(&self, consensus: Handle) {
        // Set once, at start.
        let _ = self.beside.set(consensus);
    }

    async fn connection(&self, to: u64) -> Result<Arc<Connection>, PeerError> {
        let link = self.link(to);
        let connection = match (link.known(), self.beside.get()) {
            (Some(known), _) => known,
            (None, None) => link.connection(&self.me.book.urls(to), &self.dialer).await,
            (None, Some(beside)) => {
                let (urls, dialer) = (self.me.book.urls(to), self.dialer.clone());
                let dial = beside.spawn(async move { link.connection(&urls, &dialer).await });
                dial.await.unwrap_or_else(|e| Err(PeerError::Unreachable(e.to_string())))
            }
        };
        connection.inspect_err(|_| self.sending_failed(to))
    }

    /// Returns when a member has answered a question of no consequence.
    pub async fn sign_of_life(&self, of: u64) -> Result<(), PeerError> {
        let connection = self.connection(of).await?;
        connection.get("/version", MAX_VERSION).await.map(|_| ()).map_err(|e| self.me.peer_error(e))
    }

    async fn open_append(&self, to: u64, mut requests: Requests) -> Result<Replies, PeerError> {
        let connection = self.connection(to).await?;
        let opened = connection.open("/keelson.peer.Peer/Append", &self.headers(to), &self.traffic(to)).await;
        let (mut sender, answers) = opened.map_err(|e| {
            self.sending_failed(to);
            self.me.peer_error(e)
        })?;
        let sending = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                if sender.send(&request).await.is_err() {
                    return;
                }
            }
            sender.close();
        });
        let me = self.me.clone();
        let stream = (answers, Tied(sending), connection);
        let replies = futures::stream::unfold(stream, move |(mut answers, sending, connection): (Answers, Tied, _)| {
            let me = me.clone();
            async move {
                let reply = answers.next().await.map_err(|e| me.peer_error(e)).transpose()?;
                Some((reply, (answers, sending, connection)))
            }
        });
        Ok(replies.boxed())
    }
}

impl Transport for PeerTransport {
    fn append(&self, to: u64, requests: Requests) -> Answer<'_, Replies> {
        Box::pin(self.open_append(to, requests))
    }

    fn vote(&self, to: u64, request: peer::VoteRequest) -> Answer<'_, peer::VoteReply> {
        Box::pin(async move { self.ask(to, "Vote", &request).await })
    }

    fn transfer(&self, to: u64, request: peer::TransferRequest) -> Answer<'_, peer::TransferReply> {
        Box::pin(async move { self.ask(to, "Transfer", &request).await })
    }

    fn propose(&self, to: u64, request: peer::ProposeRequest) -> Answer<'_, peer::ProposeReply> {
        Box::pin(async move { self.ask(to, "Propose", &request).await })
    }

    fn read_index(&self, to: u64) -> Answer<'_, peer::ReadIndexReply> {
        Box::pin(async move { self.ask(to, "ReadIndex", &peer::ReadIndexRequest {}).await })
    }

    fn snapshot<'a>(&'a self, to: u64, vote: peer::Vote, checkpoint: &'a Checkpoint) -> Answer<'a, peer::SnapshotReply> {
        Box::pin(async move {
            let (transfer, traffic) = (self.metrics.peers.sending_snapshot(to), self.traffic(to));
            let connection = self.connection(to).await?;
            let reply = super::send::checkpoint(&connection, &self.headers(to), &traffic, vote, checkpoint).await;
            let reply = reply.map_err(|e| self.me.peer_error(e))?;
            if reply.complete {
                transfer.went_well();
            }
            Ok(reply)
        })
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::keelson::command::Action;
    use keelson_api::keelson::{Command, FirstMembers, MemberAttributes};
    use keelson_state::{Machine, Position};
    use keelson_storage::{StateBackend, StateOptions};

    use super::*;
    use crate::grpc::Status;

    /// What a refusal does to the member with data directory `uuid`, if anything.
    fn ends(uuid: &str, book: &Arc<Book>, status: Status) -> (Option<End>, PeerError) {
        let me = Speaker { cluster_id: 1, member_id: 7, data_dir_uuid: uuid.into(), format: 1 };
        let told = Told { me, book: book.clone(), end: Arc::new(watch::Sender::new(None)) };
        let error = told.peer_error(CallError::Refused(status));
        let end = told.end.borrow().clone();
        (end, error)
    }

    #[test]
    fn a_member_ends_for_what_only_a_member_says_and_keeps_data_that_the_list_vouches_for() {
        let folder = tempfile::tempdir().unwrap();
        let (mut machine, _) = Machine::open(StateBackend::open(folder.path(), &StateOptions::default()).unwrap()).unwrap();
        let me = MemberAttributes { id: 7, data_dir_uuid: "mine".into(), ..MemberAttributes::default() };
        let first = Action::FirstMembers(FirstMembers { members: vec![me] });
        machine.apply(&Command { action: Some(first), ..Command::default() }, 1, 1).unwrap().unwrap();
        machine.commit(&Position::default()).unwrap();
        let book = Arc::new(Book::default());
        book.follow(machine.shared().clone());

        let gone = || Status::refusing(Refusal::DataGone, "x");
        assert_eq!(ends("other", &book, gone()).0, Some(End::DataGone));
        let (end, error) = ends("mine", &book, gone());
        assert!(end.is_none() && matches!(error, PeerError::Unreachable(_)));
        assert_eq!(ends("mine", &book, Status::refusing(Refusal::Removed, "x")).0, Some(End::Removed));
        assert_eq!(ends("mine", &book, Status::refusing(Refusal::TooOld, "x")).0, Some(End::TooOld));
        for code in [Code::PermissionDenied, Code::DataLoss, Code::FailedPrecondition, Code::Unavailable] {
            assert_eq!(ends("other", &book, Status::new(code, "RBAC: access denied")).0, None, "{code:?}");
        }
    }
}
