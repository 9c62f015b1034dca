//! openraft's network on [`Transport`].
//!
//! openraft asks for a stream for each run of replication and one for each heartbeat; here a stream that
//! all is answered on is used again. It limits neither what is in flight nor for how long: both limits
//! are here.

use std::collections::VecDeque;
use std::future::Future;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use keelson_api::keelson::peer;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{EmptyNode, OptionalSend};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::apply::Observer;
use crate::codec;
use crate::machine::StateSnapshot;
use crate::snapshot::Checkpoints;
use crate::transport::{PeerError, Replies, Transport};
use crate::types::Types;
use crate::wire;

/// Requests that may be unanswered on one stream.
const WINDOW: usize = 64;
/// Bytes of entries that may be unanswered on one stream.
const WINDOW_BYTES: usize = 16 << 20;

/// Makes the way to each member.
pub(crate) struct Peers {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// Learns of late heartbeats.
    pub(crate) observer: Arc<dyn Observer>,
    /// A request that is not answered for so long ends its stream.
    pub(crate) stall: Duration,
    /// Between two heartbeats.
    pub(crate) heartbeat: Duration,
}

/// The way to one member.
pub(crate) struct Peer {
    to: u64,
    transport: Arc<dyn Transport>,
    checkpoints: Arc<Checkpoints>,
    stall: Duration,
    /// In a lock only because openraft wants `Sync`.
    idle: Mutex<Option<Open>>,
    /// There for the one way that heartbeats take.
    rhythm: Option<Rhythm>,
}

/// Notices heartbeats that come late: this member is too busy, or its disk too slow, to lead.
struct Rhythm {
    observer: Arc<dyn Observer>,
    limit: Duration,
    last: Option<Instant>,
}

impl Rhythm {
    fn beat(&mut self) {
        let last = self.last.replace(Instant::now());
        if last.is_some_and(|last| last.elapsed() > self.limit) {
            self.observer.heartbeat_was_late();
        }
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, to: u64, _: &EmptyNode) -> Peer {
        let (transport, checkpoints) = (self.transport.clone(), self.checkpoints.clone());
        Peer { to, transport, checkpoints, stall: self.stall, idle: Mutex::default(), rhythm: None }
    }

    async fn new_heartbeat_client(&mut self, to: u64, node: &EmptyNode) -> Peer {
        let (observer, limit) = (self.observer.clone(), self.heartbeat * 2);
        Peer { rhythm: Some(Rhythm { observer, limit, last: None }), ..self.new_client(to, node).await }
    }
}

fn rpc_error(e: PeerError) -> RPCError<Types> {
    match e {
        PeerError::Unreachable(text) => RPCError::Unreachable(Unreachable::from_string(text)),
        PeerError::Lost(text) => RPCError::Network(NetworkError::from_string(text)),
    }
}

fn bad_message(e: std::io::Error) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&e))
}

fn size_of(request: &AppendEntriesRequest<Types>) -> usize {
    request.entries.iter().map(codec::weight).sum()
}

/// A stream to a member. It is kept from one use to the next: openraft uses one for each heartbeat.
struct Open {
    requests: mpsc::Sender<peer::AppendRequest>,
    replies: Replies,
}

/// One use of a stream: hands requests on as far as the window lets it, and answers back.
struct Session<'s, S> {
    input: S,
    /// Whether there may be more requests.
    more: bool,
    open: Option<Open>,
    /// Where the stream goes when all is answered.
    keep: &'s mut Option<Open>,
    /// How large each unanswered request is.
    in_flight: VecDeque<usize>,
    stall: Duration,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Session<'_, S> {
    fn has_room(&self) -> bool {
        self.in_flight.len() < WINDOW && (self.in_flight.is_empty() || self.in_flight.iter().sum::<usize>() < WINDOW_BYTES)
    }

    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        loop {
            let has_room = self.has_room();
            let open = self.open.as_mut()?;
            if !self.more && self.in_flight.is_empty() {
                *self.keep = self.open.take();
                return None;
            }
            tokio::select! {
                biased;
                // A quiet leader asks nothing for long; a member that was asked answers soon.
                reply = tokio::time::timeout(self.stall, open.replies.next()), if !self.in_flight.is_empty() => {
                    return self.answered(reply.unwrap_or_else(|_| Some(Err(PeerError::Lost("the member does not answer".into())))));
                }
                request = self.input.next(), if self.more && has_room => match request {
                    None => self.more = false,
                    Some(request) => {
                        self.in_flight.push_back(size_of(&request));
                        // One that is not taken any more shows in the answers.
                        let _ = open.requests.send(wire::append_request(&request)).await;
                    }
                },
            }
        }
    }

    fn answered(
        &mut self,
        reply: Option<Result<peer::AppendReply, PeerError>>,
    ) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        self.in_flight.pop_front();
        let result = match reply {
            Some(Ok(reply)) => wire::to_append_reply(reply).map_err(bad_message),
            Some(Err(e)) => Err(rpc_error(e)),
            None => Err(rpc_error(PeerError::Lost("the member has ended the stream".into()))),
        };
        if !matches!(result, Ok(Ok(_))) {
            self.open = None;
        }
        Some(result)
    }
}

impl Peer {
    async fn open(&self) -> Result<Open, PeerError> {
        let (requests, mut queue) = mpsc::channel(1);
        let queue = futures::stream::poll_fn(move |cx| queue.poll_recv(cx)).boxed();
        Ok(Open { requests, replies: self.transport.append(self.to, queue).await? })
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = StateSnapshot;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(Unreachable::from_string("entries travel by stream only")))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if let Some(rhythm) = &mut self.rhythm {
            rhythm.beat();
        }
        Box::pin(async move {
            let idle = self.idle.get_mut().take();
            let open = match idle {
                Some(open) if !open.requests.is_closed() => open,
                _ => self.open().await.map_err(rpc_error)?,
            };
            let (stall, in_flight) = (self.stall, VecDeque::new());
            let session = Session { input, more: true, open: Some(open), keep: self.idle.get_mut(), in_flight, stall };
            let results = futures::stream::unfold(session, |mut session| async move {
                let result = session.next().await?;
                Some((result, session))
            });
            Ok(results.boxed())
        })
    }

    async fn vote(&mut self, request: VoteRequest<Types>, _: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.transport.vote(self.to, wire::vote_request(&request, false)).await.map_err(rpc_error)?;
        wire::to_vote_reply(reply).map_err(bad_message)
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, _: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.transport.vote(self.to, wire::vote_request(&request, true)).await.map_err(rpc_error)?;
        wire::to_vote_reply(reply).map_err(bad_message)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, StateSnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let unreachable = |text: String| StreamingError::Unreachable(Unreachable::from_string(text));
        let send = async {
            let _sending = self.checkpoints.send();
            let least = snapshot.meta.last_log_id.as_ref().map_or(0, |id| id.index);
            let checkpoint = self.checkpoints.at_least(least).await.map_err(|e| unreachable(e.to_string()))?;
            // This leader has been followed by another meanwhile, whose entries are in the checkpoint.
            if checkpoint.position.term > vote.leader_id.term {
                return Err(unreachable("leadership was lost".into()));
            }
            let reply = self.transport.snapshot(self.to, wire::vote(&vote), &checkpoint).await;
            let reply = reply.map_err(|e| unreachable(e.to_string()))?;
            match reply.higher_vote {
                Some(higher) => wire::to_vote(Some(higher)).map_err(|e| unreachable(e.to_string())),
                None if reply.complete => Ok(vote),
                None => Err(unreachable("the checkpoint has not arrived whole".into())),
            }
        };
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent.map(SnapshotResponse::new),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let reply = self.transport.transfer(self.to, wire::transfer_request(&request)).await.map_err(rpc_error)?;
        if reply.refused.is_empty() { Ok(Ok(())) } else { Err(RPCError::Network(NetworkError::from_string(reply.refused))) }
    }

    fn backoff(&self) -> Option<Backoff> {
        let first = [20, 50, 100].map(Duration::from_millis);
        Some(Backoff::new(first.into_iter().chain(iter::repeat(Duration::from_millis(200)))))
    }
}
