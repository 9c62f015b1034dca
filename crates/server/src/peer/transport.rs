//! Consensus' network: calls to other members over their links.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use keelson_api::Code;
use keelson_api::keelson::peer;
use keelson_consensus::{Answer, Checkpoint, PeerError, Replies, Requests, Transport};
use parking_lot::Mutex;
use prost::Message;
use tokio::task::JoinHandle;

use super::book::Book;
use super::dial::Dialer;
use super::link::Link;
use super::metadata::Speaker;
use super::refusals;
use crate::grpc::{Answers, CallError};

/// Calls to other members.
pub struct PeerTransport {
    me: Speaker,
    book: Arc<Book>,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    dialer: Dialer,
}

/// Ends a task when its owner is gone.
struct Tied(JoinHandle<()>);

impl Drop for Tied {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn peer_error(e: CallError) -> PeerError {
    if let CallError::Refused(status) = &e {
        refusals::tell("another member has refused a call of this one", &status.message);
    }
    match e {
        CallError::Unsent(text) => PeerError::Unreachable(text),
        // Refused before anything was looked at.
        CallError::Refused(status) if status.code == Code::FailedPrecondition => PeerError::Unreachable(status.message),
        CallError::Refused(status) => PeerError::Lost(status.message),
        CallError::Lost(text) => PeerError::Lost(text),
    }
}

impl PeerTransport {
    /// Calls as `me` to the members in `book`.
    pub fn new(me: Speaker, book: Arc<Book>, dialer: Dialer) -> Self {
        Self { me, book, links: Mutex::default(), dialer }
    }

    fn link(&self, to: u64) -> Arc<Link> {
        self.links.lock().entry(to).or_default().clone()
    }

    /// Since when a member can be reached.
    pub fn up_since(&self, to: u64) -> Option<Instant> {
        self.links.lock().get(&to).and_then(|link| link.up_since())
    }

    /// One question, one answer.
    pub async fn ask<R: Message + Default>(&self, to: u64, method: &str, message: &impl Message) -> Result<R, PeerError> {
        let connection = self.link(to).connection(&self.book.urls(to), &self.dialer).await?;
        let path = format!("/keelson.peer.Peer/{method}");
        connection.call(&path, &self.me.headers(to), message).await.map_err(peer_error)
    }

    async fn open_append(&self, to: u64, mut requests: Requests) -> Result<Replies, PeerError> {
        let connection = self.link(to).connection(&self.book.urls(to), &self.dialer).await?;
        let opened = connection.open("/keelson.peer.Peer/Append", &self.me.headers(to)).await;
        let (mut sender, answers) = opened.map_err(peer_error)?;
        let sending = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                if sender.send(&request).await.is_err() {
                    return;
                }
            }
            sender.close();
        });
        let stream = (answers, Tied(sending), connection);
        let replies = futures::stream::unfold(stream, |(mut answers, sending, connection): (Answers, Tied, _)| async move {
            let reply = answers.next().await.map_err(peer_error).transpose()?;
            Some((reply, (answers, sending, connection)))
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
            let connection = self.link(to).connection(&self.book.urls(to), &self.dialer).await?;
            super::send::checkpoint(&connection, &self.me.headers(to), vote, checkpoint).await
        })
    }
}
