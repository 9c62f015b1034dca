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
use super::metadata::{DATA_GONE, REMOVED, Speaker};
use super::refusals;
use crate::grpc::{Answers, CallError, Connection};
use crate::member::End;
use crate::metrics::Metrics;

/// Bytes that a member may need to tell its version.
const MAX_VERSION: usize = 4 << 10;

/// Calls to other members.
pub struct PeerTransport {
    me: Speaker,
    book: Arc<Book>,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    dialer: Dialer,
    /// Another member may answer that this one has to end.
    end: Arc<watch::Sender<Option<End>>>,
    metrics: Arc<Metrics>,
    beside: OnceLock<Handle>,
}

/// Ends a task when its owner is gone.
struct Tied(JoinHandle<()>);

impl Drop for Tied {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn peer_error(e: CallError, end: &watch::Sender<Option<End>>) -> PeerError {
    let told = match &e {
        CallError::Refused(status) if status.code == REMOVED => Some(End::Removed),
        CallError::Refused(status) if status.code == DATA_GONE => Some(End::DataGone),
        _ => None,
    };
    if let CallError::Refused(status) = &e {
        refusals::tell("another member has refused a call of this one", &status.message);
    }
    let refused_at_once = told.is_some();
    if let Some(told) = told {
        end.send_replace(Some(told));
    }
    match e {
        CallError::Unsent(text) => PeerError::Unreachable(text),
        // Refused before anything was looked at.
        CallError::Refused(status) if refused_at_once || status.code == Code::FailedPrecondition => {
            PeerError::Unreachable(status.message)
        }
        CallError::Refused(status) => PeerError::Lost(status.message),
        CallError::Lost(text) => PeerError::Lost(text),
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
        Self { me, book, links: Mutex::default(), dialer, end, metrics, beside: OnceLock::new() }
    }

    fn link(&self, to: u64) -> Arc<Link> {
        self.links.lock().entry(to).or_default().clone()
    }

    /// Since when a member can be reached.
    pub fn up_since(&self, to: u64) -> Option<Instant> {
        self.links.lock().get(&to).and_then(|link| link.up_since())
    }

    /// What calls to a member carry.
    fn headers(&self, to: u64) -> HeaderMap {
        self.me.headers(to, &self.book.data_dir_uuid(to))
    }

    /// One question, one answer.
    pub async fn ask<R: Message + Default>(&self, to: u64, method: &str, message: &impl Message) -> Result<R, PeerError> {
        let connection = self.connection(to).await?;
        let path = format!("/keelson.peer.Peer/{method}");
        let traffic = self.metrics.peers.traffic(to);
        connection.call(&path, &self.headers(to), message, &traffic).await.map_err(|e| {
            self.metrics.peers.sending_failed(to);
            peer_error(e, &self.end)
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
            (None, None) => link.connection(&self.book.urls(to), &self.dialer).await,
            (None, Some(beside)) => {
                let (urls, dialer) = (self.book.urls(to), self.dialer.clone());
                let dial = beside.spawn(async move { link.connection(&urls, &dialer).await });
                dial.await.unwrap_or_else(|e| Err(PeerError::Unreachable(e.to_string())))
            }
        };
        connection.inspect_err(|_| self.metrics.peers.sending_failed(to))
    }

    /// Returns when a member has answered a question of no consequence.
    pub async fn sign_of_life(&self, of: u64) -> Result<(), PeerError> {
        let connection = self.connection(of).await?;
        connection.get("/version", MAX_VERSION).await.map(|_| ()).map_err(|e| peer_error(e, &self.end))
    }

    async fn open_append(&self, to: u64, mut requests: Requests) -> Result<Replies, PeerError> {
        let connection = self.connection(to).await?;
        let traffic = self.metrics.peers.traffic(to);
        let opened = connection.open("/keelson.peer.Peer/Append", &self.headers(to), &traffic).await;
        let (mut sender, answers) = opened.map_err(|e| {
            self.metrics.peers.sending_failed(to);
            peer_error(e, &self.end)
        })?;
        let sending = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                if sender.send(&request).await.is_err() {
                    return;
                }
            }
            sender.close();
        });
        let end = self.end.clone();
        let stream = (answers, Tied(sending), connection);
        let replies = futures::stream::unfold(stream, move |(mut answers, sending, connection): (Answers, Tied, _)| {
            let end = end.clone();
            async move {
                let reply = answers.next().await.map_err(|e| peer_error(e, &end)).transpose()?;
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
            let (transfer, traffic) = (self.metrics.peers.sending_snapshot(to), self.metrics.peers.traffic(to));
            let connection = self.connection(to).await?;
            let reply = super::send::checkpoint(&connection, &self.headers(to), &traffic, vote, checkpoint).await?;
            if reply.complete {
                transfer.went_well();
            }
            Ok(reply)
        })
    }
}
