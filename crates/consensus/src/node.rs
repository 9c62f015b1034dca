//! One member's consensus: starts it, proposes, proves reads, purges the log.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use keelson_api::Error;
use keelson_api::keelson::Command;
use keelson_mvcc::Backend;
use keelson_state::{Machine, Position, Reply};
use keelson_storage::LogError;
use openraft::async_runtime::instant::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, EmptyNode, SnapshotPolicy};
use parking_lot::Mutex;
use prost::Message;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::apply::{Applier, Observer};
use crate::blocking::off_thread;
use crate::codec;
use crate::disk::LogDisk;
use crate::log::Log;
use crate::machine::{FlushedPosition, StateMachine};
use crate::network::Peers;
use crate::pending::Pending;
use crate::propose::{self, Proposal};
use crate::read_index::{self, ReadIndex};
use crate::serve::Heard;
use crate::snapshot::{Checkpoints, MakeCheckpoint};
use crate::transport::Transport;
use crate::types::Types;

pub(crate) type Raft = openraft::Raft<Types, StateMachine>;

/// Proposals and reads that may wait before callers are held back.
const QUEUE: usize = 65_536;
/// How often the log is checked for entries that the state store no longer needs.
const PURGE_INTERVAL: Duration = Duration::from_secs(2);
/// How long consensus may take to say why it has failed.
const TELLING: Duration = Duration::from_secs(1);

/// How a node is started.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// This member.
    pub member_id: u64,
    /// Tells this run of the process from all others of all members.
    pub run: u64,
    /// Voters to start a new cluster with; ignored when the log has a membership already. Empty for a
    /// member that joins: it waits to be told.
    pub initial_voters: Vec<u64>,
    /// Milliseconds between a leader's heartbeats.
    pub heartbeat_ms: u64,
    /// Milliseconds without a leader before a member stands for election.
    pub election_ms: u64,
    /// Applied entries kept in the log for members that lag.
    pub entries_to_keep: u64,
    /// Other members are there, or are going to be.
    pub expects_others: bool,
}

/// The node could not be started or has failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NodeError {
    #[error("consensus cannot start: {0}")]
    Start(String),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Log(#[from] LogError),
}

/// Where this member stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Current term.
    pub term: u64,
    /// The leader, if there is one.
    pub leader: Option<u64>,
    /// Whether it is this member.
    pub is_leader: bool,
    /// Whether this member has no vote.
    pub is_learner: bool,
    /// Whether it asks the others for their votes.
    pub is_candidate: bool,
    /// Whom it has voted for.
    pub vote: u64,
    /// Newest entry of its log.
    pub last: u64,
    /// Newest committed entry.
    pub committed: u64,
    /// Newest applied entry.
    pub applied: u64,
    /// Set when consensus cannot go on; the process should end.
    pub failed: Option<String>,
}

/// A running member.
pub struct Node {
    runtime: Mutex<Option<Runtime>>,
    pub(crate) raft: Raft,
    proposals: mpsc::Sender<Proposal>,
    reads: mpsc::Sender<read_index::Waiter>,
    applied: watch::Receiver<u64>,
    /// Last index of the log when it was opened.
    found: u64,
    pub(crate) member_id: u64,
    pub(crate) reads_here: ReadIndex,
    pub(crate) heard: Arc<Heard>,
    election: Duration,
}

/// What a member calls, beyond its own log and state.
pub struct Around {
    /// Is told of what has been applied.
    pub observer: Arc<dyn Observer>,
    /// Reaches the other members.
    pub transport: Arc<dyn Transport>,
    /// Makes the state that a member too far behind is sent.
    pub checkpoint: MakeCheckpoint,
}

impl Node {
    /// Starts the member on its log and state. Returns once everything that is known to be committed
    /// has been applied, so that no read goes back in time.
    pub fn start<B: Backend>(
        options: &NodeOptions,
        log: impl LogDisk,
        machine: Machine<B>,
        position: Position,
        flushed: impl Fn() -> io::Result<Position> + Send + Sync + 'static,
        around: Around,
    ) -> Result<Self, NodeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads(options, &position)?)
            .max_blocking_threads(4)
            .thread_name("raft")
            .enable_all()
            .build()?;
        let node = runtime.block_on(Self::open(options, log, machine, position, flushed, around))?;
        *node.runtime.lock() = Some(runtime);
        Ok(node)
    }

    /// As [`Node::start`], on the runtime that it is called on.
    pub(crate) async fn open<B: Backend>(
        options: &NodeOptions,
        log: impl LogDisk,
        machine: Machine<B>,
        position: Position,
        flushed: impl Fn() -> io::Result<Position> + Send + Sync + 'static,
        around: Around,
    ) -> Result<Self, NodeError> {
        let Around { observer, transport, checkpoint } = around;
        let log = Log::new(log)?;
        let pending = Arc::new(Pending::new(options.run));
        let applier = Applier::new(machine, position.clone(), observer.clone(), pending.clone());
        let applied = applier.applied();
        let flushed: FlushedPosition = Arc::new(flushed);
        let state_machine = StateMachine::new(Box::new(applier), log.durable(), position, flushed.clone());
        let committed = log.committed()?.map_or(0, |id| id.index);
        let found = log.last()?.map_or(0, |id| id.index);
        let checkpoints = Arc::new(Checkpoints::new(checkpoint));
        let election = Duration::from_millis(options.election_ms);
        let peers = Peers {
            transport: transport.clone(),
            checkpoints: checkpoints.clone(),
            observer,
            stall: election,
            heartbeat: Duration::from_millis(options.heartbeat_ms),
        };
        let raft = start_raft(options, log.clone(), state_machine, peers).await?;

        let (proposals, proposal_queue) = mpsc::channel(QUEUE);
        let (reads, read_queue) = mpsc::channel(QUEUE);
        let member_id = options.member_id;
        let reads_here = ReadIndex::start(member_id, raft.clone(), transport.clone());
        tokio::spawn(propose::run(member_id, raft.clone(), pending, transport, proposal_queue));
        tokio::spawn(read_index::run(reads_here.clone(), applied.clone(), read_queue));
        tokio::spawn(choose_writer(raft.clone(), log));
        tokio::spawn(purge(raft.clone(), flushed, checkpoints));
        let heard = Arc::new(Heard::new());
        let runtime = Mutex::new(None);
        let node = Self { raft, proposals, reads, applied, found, member_id, reads_here, heard, election, runtime };
        let caught_up = node.applied.clone().wait_for(|a| *a >= committed).await.is_ok();
        if !caught_up {
            let why = tokio::time::timeout(TELLING, node.failure()).await;
            return Err(NodeError::Start(why.unwrap_or_else(|_| "applying the log failed; see the log above".into())));
        }
        Ok(node)
    }

    /// Proposes a command and waits until it is applied here. Bounded in time by the caller.
    pub async fn propose(&self, command: &Command) -> Result<Reply, Error> {
        let (answer, reply) = oneshot::channel();
        let proposal = Proposal { command: command.encode_to_vec().into(), answer };
        self.proposals.send(proposal).await.map_err(|_| Error::Stopped)?;
        reply.await.map_err(|_| Error::Stopped)?
    }

    /// Returns when a read of the local state is linearizable. Bounded in time by the caller.
    pub async fn read_barrier(&self) -> Result<(), Error> {
        if self.is_all_there_is() {
            return Ok(());
        }
        let (waiter, result) = oneshot::channel();
        self.reads.send(waiter).await.map_err(|_| Error::Stopped)?;
        result.await.map_err(|_| Error::Stopped)?
    }

    /// Whether this member leads, is the whole cluster, and has applied what it found when it started and what came before
    /// the others left, if there were any. Then it has applied all that was ever acknowledged: nobody else acknowledges
    /// anything, and that cannot change before it has itself let another member in, and knows.
    fn is_all_there_is(&self) -> bool {
        let metrics = self.raft.metrics();
        let m = metrics.borrow_watched();
        let alone_since = m.membership_config.log_id().as_ref().map_or(0, |id| id.index);
        m.state == openraft::ServerState::Leader
            && m.membership_config.membership().nodes().map(|(id, _)| *id).eq([self.member_id])
            && *self.applied.borrow() >= alone_since.max(self.found)
    }

    /// Whether this entry has been applied here.
    #[must_use]
    pub fn has_applied(&self, index: u64) -> bool {
        *self.applied.borrow() >= index
    }

    /// Where this member stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let m = metrics.borrow_watched();
        let is_leader = m.current_leader == Some(self.member_id);
        let alone = m.membership_config.membership().voter_ids().count() == 1;
        // Consensus itself never forgets a leader: one that is not heard of, or hears of no quorum, is none.
        let silence = match m.last_quorum_acked {
            _ if !is_leader => self.heard.ago(),
            _ if alone => Duration::ZERO,
            Some(at) => at.elapsed(),
            None => Duration::MAX,
        };
        Status {
            term: m.current_term,
            leader: m.current_leader.filter(|_| silence < self.still_leads()),
            is_leader,
            is_learner: m.state == openraft::ServerState::Learner,
            is_candidate: m.state == openraft::ServerState::Candidate,
            vote: m.vote.leader_id.voted_for,
            last: m.last_log_index.unwrap_or(0),
            committed: m.local_committed.as_ref().map_or(0, |id| id.index),
            applied: *self.applied.borrow(),
            failed: m.running_state.as_ref().err().map(ToString::to_string),
        }
    }

    /// How long a leader counts as one that is no longer heard of, or hears of no quorum.
    pub(crate) fn still_leads(&self) -> Duration {
        self.election * 3 / 2
    }

    /// Whether this member has no vote.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.raft.metrics().borrow_watched().state == openraft::ServerState::Learner
    }

    /// Waits until somebody leads in a term after `known`; answers that term.
    pub async fn led_after(&self, known: u64) -> u64 {
        let mut metrics = self.raft.server_metrics();
        loop {
            let (leader, term) = {
                let m = metrics.borrow_watched();
                (m.current_leader, m.vote.leader_id.term)
            };
            if leader.is_some() && term > known {
                return term;
            }
            if metrics.changed().await.is_err() {
                // Consensus has ended, and will have no other leader.
                return std::future::pending().await;
            }
        }
    }

    /// Waits for consensus to fail. It looks now and then: following what consensus says of itself would
    /// wake the caller several times for each write.
    pub async fn failure(&self) -> String {
        const LOOK: Duration = Duration::from_millis(100);
        loop {
            let failed = self.raft.metrics().borrow_watched().running_state.as_ref().err().map(ToString::to_string);
            if let Some(failed) = failed {
                return failed;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where consensus runs: what it must not wait for runs there too.
    #[must_use]
    pub fn handle(&self) -> Option<tokio::runtime::Handle> {
        self.runtime.lock().as_ref().map(|r| r.handle().clone())
    }

    /// Stops consensus and waits for the threads that write.
    pub fn stop(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        if let Err(e) = runtime.block_on(self.raft.shutdown()) {
            tracing::warn!(error = %e, "consensus did not stop cleanly");
        }
        // With its tasks goes the sender that keeps the log thread alive.
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// Threads of consensus. Others are not to miss heartbeats while an apply waits for the disk: that takes two. A member that
/// is alone has nobody to tell, and work that wanders between two threads costs it up to a tenth more. One that others join
/// though nobody expected it keeps its one thread until it is started again, on a state that knows of them.
fn threads(options: &NodeOptions, position: &Position) -> io::Result<usize> {
    let (_, stored) = codec::from_position(position)?;
    let voters = stored.membership().voter_ids();
    let is_alone = stored.log_id().is_none() || voters.eq([options.member_id]);
    Ok(if is_alone && !options.expects_others { 1 } else { 2 })
}

async fn start_raft(options: &NodeOptions, log: Log, state_machine: StateMachine, peers: Peers) -> Result<Raft, NodeError> {
    let election = options.election_ms;
    let config = Config {
        cluster_name: "keelson".into(),
        heartbeat_interval: options.heartbeat_ms,
        // A follower waits the upper bound plus a random part: together about one election timeout.
        election_timeout_min: election * 35 / 100,
        election_timeout_max: election * 65 / 100,
        snapshot_policy: SnapshotPolicy::Never,
        // A leader that reaches a quorum one way only steps aside for those that reach each other.
        quorum_loss_probe_interval: Some(election * 3 / 2),
        max_in_snapshot_log_to_keep: options.entries_to_keep,
        purge_batch_size: 256,
        enable_pre_vote: Some(true),
        // A leader that comes back in its old term would give indexes a second time: others may hold
        // entries of that term that never reached its own disk.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    let config = config.validate().map_err(|e| NodeError::Start(e.to_string()))?;
    let start = |e: String| NodeError::Start(e);
    let raft =
        Raft::new(options.member_id, Arc::new(config), peers, log, state_machine).await.map_err(|e| start(e.to_string()))?;
    let initialized = raft.is_initialized().await.map_err(|e| start(e.to_string()))?;
    if !initialized && !options.initial_voters.is_empty() {
        let voters: BTreeMap<u64, EmptyNode> = options.initial_voters.iter().map(|id| (*id, EmptyNode {})).collect();
        match raft.initialize(voters).await {
            // Another member was faster, and has asked for a vote already: it brings the membership.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(e) => return Err(start(e.to_string())),
        }
    } else if options.initial_voters == [options.member_id] {
        // Nobody else can be leader: no reason to wait for the election timeout.
        raft.trigger().elect(false).await.map_err(|e| start(e.to_string()))?;
    }
    Ok(raft)
}

/// Small entries are written at once, where they are appended, unless this member leads others: those
/// get an entry only after it was appended here, and are to write it at the same time.
async fn choose_writer(raft: Raft, log: Log) {
    let mut metrics = raft.server_metrics();
    loop {
        {
            let m = metrics.borrow_watched();
            let alone = m.membership_config.membership().nodes().count() <= 1;
            log.write_at_once(alone || m.state != openraft::ServerState::Leader);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Lets go of log entries that the state store has on disk.
async fn purge(raft: Raft, flushed: FlushedPosition, checkpoints: Arc<Checkpoints>) {
    let mut interval = tokio::time::interval(PURGE_INTERVAL);
    let mut reported = 0;
    loop {
        interval.tick().await;
        checkpoints.forget_old();
        if checkpoints.hold_log() {
            continue;
        }
        let flushed = flushed.clone();
        match off_thread(move || flushed()).await {
            Ok(position) if position.index > reported => {
                reported = position.index;
                if raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(e) => tracing::error!(error = %e, "the flushed position cannot be read; the log is not purged"),
        }
    }
}
