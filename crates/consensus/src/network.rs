//! openraft's network on [`Transport`].
//!
//! openraft opens a stream for each run of replication and one for each heartbeat; here each is a
//! stream of one long-lived connection. It limits neither what is in flight nor for how long: both
//! limits are here.

use std::collections::VecDeque;
use std::future::Future;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
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
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
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
const WINDOW_BYTES: u32 = 16 << 20;

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
        Peer { to, transport, checkpoints, stall: self.stall, rhythm: None }
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

/// Ends a task when its owner is gone. openraft cannot open the next stream while this one's input is held.
struct Tied(JoinHandle<()>);

impl Drop for Tied {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is on its way: how large each unanswered request is, and the room for more.
struct InFlight {
    sizes: Mutex<VecDeque<u32>>,
    room: Semaphore,
    bytes: Semaphore,
}

impl InFlight {
    fn new() -> Self {
        Self { sizes: Mutex::default(), room: Semaphore::new(WINDOW), bytes: Semaphore::new(WINDOW_BYTES as usize) }
    }

    async fn enter(&self, size: u32) {
        // Neither semaphore is ever closed.
        if let (Ok(room), Ok(bytes)) = (self.room.acquire().await, self.bytes.acquire_many(size).await) {
            room.forget();
            bytes.forget();
            self.sizes.lock().push_back(size);
        }
    }

    fn leave(&self) {
        if let Some(size) = self.sizes.lock().pop_front() {
            self.room.add_permits(1);
            self.bytes.add_permits(size as usize);
        }
    }

    fn is_empty(&self) -> bool {
        self.sizes.lock().is_empty()
    }
}

fn size_of(request: &AppendEntriesRequest<Types>) -> u32 {
    let bytes: usize = request.entries.iter().map(codec::weight).sum();
    u32::try_from(bytes).unwrap_or(WINDOW_BYTES).clamp(1, WINDOW_BYTES)
}

/// Hands requests on as far as the window lets it.
fn pump<S>(mut input: S, in_flight: Arc<InFlight>) -> (mpsc::Receiver<keelson_api::keelson::peer::AppendRequest>, Tied)
where
    S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
{
    let (requests, queue) = mpsc::channel(1);
    let task = tokio::spawn(async move {
        while let Some(request) = input.next().await {
            in_flight.enter(size_of(&request)).await;
            if requests.send(wire::append_request(&request)).await.is_err() {
                return;
            }
        }
    });
    (queue, Tied(task))
}

/// The answers of one stream.
struct Session {
    replies: Replies,
    in_flight: Arc<InFlight>,
    stall: Duration,
    over: bool,
    _pump: Tied,
}

impl Session {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        if self.over {
            return None;
        }
        let reply = loop {
            match tokio::time::timeout(self.stall, self.replies.next()).await {
                Ok(reply) => break reply,
                // Nothing was asked: a quiet leader.
                Err(_) if self.in_flight.is_empty() => {}
                Err(_) => break Some(Err(PeerError::Lost("the member does not answer".into()))),
            }
        };
        self.in_flight.leave();
        let result = match reply {
            None => return None,
            Some(Ok(reply)) => wire::to_append_reply(reply).map_err(bad_message),
            Some(Err(e)) => Err(rpc_error(e)),
        };
        self.over = !matches!(result, Ok(Ok(_)));
        Some(result)
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
            let in_flight = Arc::new(InFlight::new());
            let (mut queue, tied) = pump(input, in_flight.clone());
            let requests = futures::stream::poll_fn(move |cx| queue.poll_recv(cx)).boxed();
            let replies = self.transport.append(self.to, requests).await.map_err(rpc_error)?;
            let session = Session { replies, in_flight, stall: self.stall, over: false, _pump: tied };
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
                None if reply.complete => Ok(vote.clone()),
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
