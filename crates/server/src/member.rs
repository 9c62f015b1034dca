//! One running member: its state, its consensus, its watchers and its leases, and what all services
//! share: headers, deadlines, the quota.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::{AlarmRequest, AlarmType, ResponseHeader};
use keelson_api::keelson::Command;
use keelson_api::keelson::command::Action;
use keelson_api::{Error, format};
use keelson_consensus::{Lessor, Node, Observer, Status};
use keelson_mvcc::watch::Hub;
use keelson_mvcc::{EventKind, ReadError, ReadMode};
use keelson_state::{Applied, Reply, Shared};
use keelson_storage::{LogWaits, StateBackend};
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::{Notify, Semaphore};

use crate::brief;
use crate::config::Config;
use crate::corruption::{KeptHashes, Scans};
use crate::disk::Disk;
use crate::grpc::Call;
use crate::metrics::{Metrics, Request, Snapshot};
use crate::overdue;
use crate::peer::{Book, PeerTransport, Speaker};
use crate::traces::Tracer;
use crate::users::{Asker, Tokens};

/// Replicated state of this process.
pub type State = Shared<StateBackend>;

/// Everything a service needs.
pub struct Member {
    /// Configuration.
    pub config: Config,
    /// Cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// This data directory's own name.
    pub data_dir_uuid: String,
    /// Consensus.
    pub node: Node,
    /// The way to other members.
    pub peers: Arc<PeerTransport>,
    /// Where they are.
    pub book: Arc<Book>,
    /// Wakes who follows the member list.
    pub members_changed: Arc<tokio::sync::watch::Sender<()>>,
    /// Held while a checkpoint is being received.
    pub receiving: tokio::sync::Mutex<()>,
    /// Why the process, or this run of the member, ends.
    pub end: Arc<tokio::sync::watch::Sender<Option<End>>>,
    /// State for reads.
    pub state: Arc<State>,
    /// Watchers.
    pub hub: Hub<StateBackend>,
    /// Lease clocks.
    pub lessor: Arc<Lessor>,
    /// Tokens of users.
    pub tokens: Arc<Tokens>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Tells of calls, if that is asked for.
    pub traces: Option<Tracer>,
    /// Wakes the remover of compacted versions, and those that wait for it.
    pub removal: Arc<Removal>,
    /// Says that the process is stopping.
    pub stopping: tokio::sync::watch::Sender<bool>,
    /// Changes when streams that want a leader have to end.
    pub leader_lost: tokio::sync::watch::Sender<u64>,
    /// When the last leader was elected, as far as this member has seen.
    pub leader_elected: Mutex<Option<Instant>>,
    /// How long the log has been waiting for the disk.
    pub log_waits: Arc<LogWaits>,
    /// Room for data.
    pub disk: Disk,
    /// Checksums at past compactions.
    pub kept_hashes: KeptHashes,
    /// Checksums being computed.
    pub scans: Scans,
    /// The files of the state store are being rewritten.
    pub defragmenting: Arc<AtomicBool>,
    /// How many more snapshots may be sent at a time.
    pub snapshots: Arc<Semaphore>,
}

/// Why a run of the member ends, other than by a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A whole state has come from another member: start anew with it.
    Anew,
    /// The member was removed from the cluster.
    Removed,
    /// The others know this member with another data directory.
    DataGone,
    /// The cluster has a format that this build does not understand.
    TooOld,
}

/// Counts a proposal as pending while it lives, even if its caller goes away.
struct Pending<'a>(&'a IntGauge);

impl<'a> Pending<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Signals between the apply path, the remover and physical compactions.
#[derive(Default)]
pub struct Removal {
    /// A compaction was accepted.
    pub wanted: Notify,
    /// Removal has caught up, or failed.
    pub finished: Notify,
    /// The last removal failed.
    pub failed: AtomicBool,
}

/// Carries what was applied to watchers, lease clocks, tokens and counters.
pub struct Publisher {
    /// Watchers.
    pub hub: Hub<StateBackend>,
    /// Lease clocks.
    pub lessor: Arc<Lessor>,
    /// Tokens of users.
    pub tokens: Arc<Tokens>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The remover.
    pub removal: Arc<Removal>,
    /// Wakes who follows the member list.
    pub members_changed: Arc<tokio::sync::watch::Sender<()>>,
    /// An apply that takes longer is worth a line in the log.
    pub slow_apply: Duration,
}

impl Observer for Publisher {
    fn heartbeat_was_late(&self) {
        self.metrics.late_heartbeats.inc();
    }

    fn command_applied(&self, command: &Command, reply: &Result<Reply, Error>, took: Duration) {
        if let Some(request) = command.action.as_ref().and_then(Request::of) {
            let went_well = matches!(reply, Ok(_) | Err(Error::Compacted));
            self.metrics.applies.observe(request, went_well, took);
        }
        if took > self.slow_apply {
            self.tell_of_apply(command, reply, took);
        }
    }

    fn applied(&self, applied: Applied, took: Duration) {
        self.metrics.backend_commit.observe(took.as_secs_f64());
        if took > self.slow_apply {
            let transactions = applied.transactions.len();
            self.tell_of_slow("write to the state store ", format!("{transactions} transactions"), String::new(), None, took);
        }
        let (mut puts, mut deletes, mut put_bytes) = (0, 0, 0);
        for event in applied.transactions.iter().flat_map(|t| &t.events) {
            match event.kind {
                EventKind::Put => {
                    puts += 1;
                    put_bytes += event.kv.key.len() + event.kv.value.len();
                }
                EventKind::Delete => deletes += 1,
            }
        }
        self.metrics.puts.inc_by(puts);
        self.metrics.put_bytes.add(i64::try_from(put_bytes).unwrap_or(0));
        self.metrics.deletes.inc_by(deletes);
        self.metrics.txns.inc_by(applied.transactions.len() as u64);
        self.metrics.leases_granted.inc_by(applied.granted.len() as u64);
        self.metrics.leases_revoked.inc_by(applied.revoked.len() as u64);
        applied.revoked.iter().for_each(|id| self.lessor.revoked(*id));
        for (id, ttl) in &applied.granted {
            self.metrics.lease_ttls.observe(*ttl as f64);
            self.lessor.granted(*id, *ttl, 0);
        }
        self.hub.publish(applied.transactions.into_iter().map(|t| (t.revision, t.events)));
        if !applied.tokens.is_empty() {
            self.tokens.follow(applied.tokens);
        }
        if applied.compacted {
            self.removal.wanted.notify_one();
        }
        if applied.members_changed {
            self.members_changed.send_replace(());
        }
    }
}

impl Publisher {
    /// Tells of a command that took long, as etcd tells of a request.
    fn tell_of_apply(&self, command: &Command, reply: &Result<Reply, Error>, took: Duration) {
        let request = brief::of("keelson.Command", prost::Message::encode_to_vec(command).into());
        let (response, error) = match reply {
            Ok(reply) => (reply.encoded_len().map_or_else(String::new, |bytes| format!("size:{bytes}")), None),
            Err(e) => (String::new(), Some(*e)),
        };
        self.tell_of_slow("", request, response, error, took);
    }

    fn tell_of_slow(&self, prefix: &str, request: String, response: String, error: Option<Error>, took: Duration) {
        self.metrics.slow_applies.inc();
        let error = error.map(Error::text);
        let expected = self.slow_apply;
        tracing::warn!(?took, "expected-duration" = ?expected, prefix, request, response, error, "apply request took too long");
    }
}

impl Member {
    /// Who this member is to others.
    pub fn speaker(&self) -> Speaker {
        let (cluster_id, member_id) = (self.cluster_id, self.member_id);
        Speaker { cluster_id, member_id, data_dir_uuid: self.data_dir_uuid.clone(), format: format::newest() }
    }

    /// Whether this member is a learner by the member list; one that only has not caught up serves as any.
    pub fn is_learner(&self) -> bool {
        let listed = || self.state.members().iter().any(|m| m.id == self.member_id && m.is_learner);
        self.node.is_learner() && listed()
    }

    /// Whether another member has been reachable for so long. This one always is.
    pub fn is_reachable(&self, id: u64, since: Duration) -> bool {
        id == self.member_id || self.peers.up_since(id).is_some_and(|up| up.elapsed() >= since)
    }

    /// Another member says that one was removed. It is believed if it belongs to the cluster itself.
    pub fn told_removed(&self, id: u64, by: u64) {
        if id == self.member_id && self.book.knows(by) {
            self.end.send_replace(Some(End::Removed));
        }
    }

    /// A whole state has arrived: ends this run of the member, so that the next begins with it.
    pub fn start_anew(&self) {
        self.end.send_if_modified(|end| {
            end.is_none() && {
                *end = Some(End::Anew);
                true
            }
        });
    }

    /// How long a request may wait for consensus.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * Duration::from_millis(self.config.election_ms)
    }

    /// A response header at `revision`.
    pub fn header(&self, revision: i64) -> Option<ResponseHeader> {
        let raft_term = self.node.status().term;
        Some(ResponseHeader { cluster_id: self.cluster_id, member_id: self.member_id, revision, raft_term })
    }

    /// Fills in what the state machine left out of a header.
    pub fn complete(&self, header: Option<ResponseHeader>) -> Option<ResponseHeader> {
        self.header(header.map_or_else(|| self.state.store.revision(), |h| h.revision))
    }

    /// Proposes what this member wants by itself, and waits for what it answers.
    pub fn propose(&self, action: Action) -> impl Future<Output = Result<Reply, Error>> {
        self.propose_for(None, action)
    }

    /// Proposes what somebody asks for: whether it may is looked at once more when it is applied.
    pub async fn propose_for(&self, asker: Option<Asker>, action: Action) -> Result<Reply, Error> {
        // Left out while it is the oldest, which every build understands.
        let format = Some(self.state.format()).filter(|f| *f > format::OLDEST).unwrap_or_default();
        let Asker { user, revision: auth_revision } = asker.unwrap_or_default();
        let command = Command { user, auth_revision, action: Some(action), format };
        if prost::Message::encoded_len(&command) > self.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let request = command.action.as_ref().and_then(Request::of);
        let pending = Pending::new(&self.metrics.proposals_pending);
        let begun = Instant::now();
        let result = tokio::time::timeout(self.request_timeout(), self.node.propose(&command)).await;
        drop(pending);
        let result = result.unwrap_or_else(|_| Err(overdue::reason(self, begun)));
        let failed = result.as_ref().is_err_and(|e| *e == Error::Stopped || overdue::may_be_tried_again(*e));
        if failed {
            self.metrics.proposals_failed.inc();
        }
        if let Some(request) = request {
            self.metrics.requests.observe(request, !failed, begun.elapsed());
        }
        result
    }

    /// Waits until reads of the local state are linearizable.
    pub async fn read_barrier(&self) -> Result<(), Error> {
        let result = tokio::time::timeout(self.request_timeout(), self.node.read_barrier()).await;
        match result {
            Ok(result) => result.inspect_err(|_| self.metrics.read_indexes_failed.inc()),
            Err(_) => {
                self.metrics.slow_read_indexes.inc();
                Err(Error::Timeout)
            }
        }
    }

    /// Runs a read, at first from memory only, and off the async threads if it needs the disk.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&State, ReadMode) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Error> {
        match read(&self.state, ReadMode::CacheOnly) {
            Err(ReadError::WouldBlock) => {
                let state = self.state.clone();
                let blocking = tokio::task::spawn_blocking(move || read(&state, ReadMode::Blocking)).await;
                blocking.map_err(|_| Error::Stopped)?.map_err(read_error)
            }
            other => other.map_err(read_error),
        }
    }

    /// Refuses a request that would go beyond the quota or fill the disk, raising the alarm for it.
    pub async fn check_quota(&self, cost: u64) -> Result<(), Error> {
        if cost == 0 {
            return Ok(());
        }
        let in_use_bytes = self.state.store.bytes_in_use();
        let why = if self.config.quota.is_some_and(|quota| in_use_bytes + cost >= quota) {
            "the quota is used up and writes are refused; compact, or raise --quota-backend-bytes, then disarm the alarm"
        } else if self.disk.is_low() {
            "the disk is nearly full and writes are refused; make room on it or compact, then disarm the alarm"
        } else {
            return Ok(());
        };
        if !self.state.is_alarmed(AlarmType::Nospace) {
            let data_dir = self.config.data_dir.display().to_string();
            tracing::warn!(quota_bytes = self.config.quota, in_use_bytes, data_dir, "{why}");
            let raise = AlarmRequest {
                action: AlarmAction::Activate.into(),
                member_id: self.member_id,
                alarm: AlarmType::Nospace.into(),
            };
            self.propose(Action::Alarm(raise)).await?;
        }
        Err(Error::NoSpace)
    }

    /// Shortest time to live that a lease can have, in seconds.
    pub fn min_lease_ttl(&self) -> i64 {
        let millis = self.config.election_ms * 3 / 2;
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// Resolves when the process is stopping.
    pub async fn stopped(&self) {
        // The sender lives in the member itself, so this cannot fail.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Resolves when a stream of this call has to end because there is no leader; never if it does not mind.
    pub fn leader_lost(&self, call: &Call) -> impl Future<Output = ()> + use<> {
        let lost = call.wants_leader().then(|| self.leader_lost.subscribe());
        async move {
            match lost {
                // The sender lives in the member itself, so this cannot fail.
                Some(mut lost) => drop(lost.changed().await),
                None => std::future::pending().await,
            }
        }
    }

    /// Where consensus stands.
    pub fn status(&self) -> Status {
        self.node.status()
    }

    /// Values of the gauges.
    pub fn snapshot(&self) -> Snapshot {
        let status = self.status();
        let store = &self.state.store;
        Snapshot {
            has_leader: status.leader.is_some(),
            // One that a quorum has not heard of for long leads nobody.
            is_leader: status.is_leader && status.leader.is_some(),
            is_learner: status.is_learner,
            committed: status.committed,
            applied: status.applied,
            db_size: store.backend().disk_size(),
            db_in_use: store.bytes_in_use(),
            quota: self.config.quota.unwrap_or(0),
            keys: store.live_keys(),
            revision: store.revision(),
            compacted: store.compacted(),
            watchers: self.hub.watchers(),
            auth_revision: self.state.users().revision(),
            open_reads: store.open_reads(),
            alarms: self.state.alarms().iter().map(|alarm| (alarm.member_id, alarm_name(alarm.alarm))).collect(),
        }
    }

    /// Waits for all superseded versions to be removed from the disk.
    pub async fn wait_for_removal(&self) -> Result<(), Error> {
        loop {
            let finished = self.removal.finished.notified();
            if !self.state.store.removal_pending() {
                return Ok(());
            }
            if self.removal.failed.load(Ordering::Acquire) {
                return Err(Error::Storage);
            }
            finished.await;
        }
    }
}

/// What is wrong, as etcd calls it.
pub fn alarm_name(alarm: i32) -> &'static str {
    AlarmType::try_from(alarm).map_or("UNKNOWN", |kind| kind.as_str_name())
}

/// The client's view of a failed read.
pub fn read_error(e: ReadError) -> Error {
    match e {
        ReadError::Compacted => Error::Compacted,
        ReadError::Future => Error::FutureRevision,
        ReadError::WouldBlock => Error::Timeout,
        ReadError::Storage(e) => {
            tracing::error!(error = %e, "a read has failed");
            Error::Storage
        }
    }
}
