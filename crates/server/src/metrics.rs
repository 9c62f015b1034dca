//! Metrics under etcd's names, so that its dashboards and alerts work unchanged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keelson_api::Code;
use parking_lot::Mutex;
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};

use crate::config::Gates;
use crate::grpc::Status;
use crate::services::Method;

mod clients;
mod peers;
mod requests;
mod upkeep;
mod watches;

pub use clients::Clients;
pub use peers::{PeerMetrics, Traffic};
pub use requests::{Durations, Ranges, Request};
pub use upkeep::Upkeep;
pub use watches::WatchLoops;

/// Handles of one gRPC method, looked up once.
struct MethodMetrics {
    started: IntCounter,
    handled_ok: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    seconds: Option<Histogram>,
}

/// Everything this process counts.
pub struct Metrics {
    registry: Registry,
    methods: Vec<MethodMetrics>,
    handled: IntCounterVec,
    /// Time of a write to the log.
    pub wal_write: Histogram,
    /// Time of the sync that follows.
    pub wal_fsync: Histogram,
    /// Bytes written to the log; a gauge, as in etcd.
    pub wal_bytes: IntGauge,
    /// Time of requests, with the wait for consensus.
    pub requests: Durations,
    /// Time of applying commands.
    pub applies: Durations,
    /// Time of reading ranges.
    pub range_reads: Ranges,
    /// Requests by the clients' version.
    pub clients: Clients,
    /// Time of applying a batch and writing it to the state store.
    pub backend_commit: Histogram,
    /// Proposals that wait.
    pub proposals_pending: IntGauge,
    /// Proposals that failed.
    pub proposals_failed: IntCounter,
    /// Read index rounds that failed.
    pub read_indexes_failed: IntCounter,
    /// Expired leases.
    pub leases_expired: IntCounter,
    /// Granted leases.
    pub leases_granted: IntCounter,
    /// Renewed leases.
    pub leases_renewed: IntCounter,
    /// Revoked leases.
    pub leases_revoked: IntCounter,
    /// Seconds for which leases were granted.
    pub lease_ttls: Histogram,
    /// Bytes of keys and values that were put; a gauge, as in etcd.
    pub put_bytes: IntGauge,
    /// Applied puts.
    pub puts: IntCounter,
    /// Applied deletes.
    pub deletes: IntCounter,
    /// Transactions.
    pub txns: IntCounter,
    /// Ranges.
    pub ranges: IntCounter,
    /// Bytes sent to clients.
    pub client_sent: IntCounter,
    /// Bytes received from clients.
    pub client_received: IntCounter,
    /// Open watch streams.
    pub watch_streams: IntGauge,
    /// Events sent to watchers.
    pub watch_events: IntCounter,
    /// Watches that are replayed from disk.
    pub slow_watchers: IntGauge,
    /// Streams whose requests could not be read.
    stream_failures: IntCounterVec,
    /// Time of what streams of watches do.
    pub watch_loops: WatchLoops,
    /// What the store does for itself.
    pub upkeep: Upkeep,
    /// `/health` answers that were good.
    pub health_success: IntCounter,
    /// `/health` answers that were bad.
    pub health_failures: IntCounter,
    /// Leader changes.
    pub leader_changes: IntCounter,
    /// Linearizable reads that nobody could prove in time.
    pub slow_read_indexes: IntCounter,
    /// Applies that took long enough for a line in the log.
    pub slow_applies: IntCounter,
    /// Heartbeats that this leader sent late.
    pub late_heartbeats: IntCounter,
    /// Learners that this leader made voters.
    pub promoted: IntCounter,
    /// Those that it did not, by reason.
    pub not_promoted: IntCounterVec,
    /// Time of computing the checksum of the data at a revision.
    pub hash_rev: Histogram,
    /// What is counted of other members.
    pub peers: PeerMetrics,
    /// Last results of `/livez` and `/readyz`, and how many there were.
    checks: (IntGaugeVec, IntCounterVec),
    /// Who asks for metrics now, and how often that went well.
    scrapes: (IntGauge, IntCounter),
    /// Alarms that were raised while this process runs: those that are over are told as 0.
    alarms_seen: Mutex<BTreeSet<(u64, &'static str)>>,
    gauges: Gauges,
}

/// Values that are read when somebody asks.
struct Gauges {
    has_leader: IntGauge,
    is_leader: IntGauge,
    is_learner: IntGauge,
    committed: IntGauge,
    applied: IntGauge,
    db_size: IntGauge,
    db_in_use: IntGauge,
    quota: Gauge,
    keys: IntGauge,
    revision: IntGauge,
    compacted: IntGauge,
    watchers: IntGauge,
    auth_revision: IntGauge,
    open_reads: IntGauge,
    alarms: IntGaugeVec,
    resident: IntGauge,
    virtual_bytes: Gauge,
    virtual_limit: Gauge,
    network_received: Counter,
    network_sent: Counter,
    cpu_seconds: Counter,
    fd_used: IntGauge,
    fd_limit: IntGauge,
    process_fds: IntGauge,
    process_max_fds: IntGauge,
}

/// What [`Gauges`] are set to.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Snapshot {
    pub has_leader: bool,
    pub is_leader: bool,
    pub is_learner: bool,
    pub committed: u64,
    pub applied: u64,
    pub db_size: u64,
    pub db_in_use: u64,
    pub quota: u64,
    pub keys: usize,
    pub revision: i64,
    pub compacted: i64,
    pub watchers: usize,
    pub auth_revision: u64,
    /// Reads that keep a revision from being removed.
    pub open_reads: usize,
    /// Members and what is wrong with them.
    pub alarms: BTreeSet<(u64, &'static str)>,
}

struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    // A name is registered once, by the constructor below; a clash is a bug that every test finds.
    fn add<C: prometheus::core::Collector + Clone + 'static>(&self, collector: prometheus::Result<C>) -> C {
        let collector = collector.expect("the metric's name and labels are valid");
        self.0.register(Box::new(collector.clone())).expect("the metric's name is used once");
        collector
    }
    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }
    /// Buckets as (bound of the first, how many), each twice as far as the one before.
    fn histograms(&self, name: &str, help: &str, buckets: (f64, usize), labels: &[&str]) -> HistogramVec {
        let buckets = exponential_buckets(buckets.0, 2.0, buckets.1).expect("valid buckets");
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels))
    }
    fn histogram(&self, name: &str, help: &str, start: f64, count: usize) -> Histogram {
        let buckets = exponential_buckets(start, 2.0, count).expect("valid buckets");
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }
}

/// Answers to who asks for metrics, as the library of etcd counts them. They do not fail here.
fn scrapes(m: &Maker<'_>) -> (IntGauge, IntCounter) {
    let name = "promhttp_metric_handler_requests";
    let all = m.counters(&format!("{name}_total"), "Scrapes, by HTTP status code.", &["code"]);
    for code in ["500", "503"] {
        all.with_label_values(&[code]);
    }
    (m.gauge(&format!("{name}_in_flight"), "Scrapes that are being served."), all.with_label_values(&["200"]))
}

/// Sets a counter to what the kernel has counted.
fn advance(counter: &Counter, to: f64) {
    counter.inc_by((to - counter.get()).max(0.0));
}

fn int(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new(member_id: u64, extensive: bool, gates: Gates) -> Arc<Self> {
        let registry = Registry::new();
        let m = Maker(&registry);
        let labels = ["grpc_method", "grpc_service", "grpc_type"];
        let started = m.add(IntCounterVec::new(Opts::new("grpc_server_started_total", "Calls begun."), &labels));
        let received = m.add(IntCounterVec::new(Opts::new("grpc_server_msg_received_total", "Messages received."), &labels));
        let sent = m.add(IntCounterVec::new(Opts::new("grpc_server_msg_sent_total", "Messages sent."), &labels));
        let with_code = ["grpc_code", "grpc_method", "grpc_service", "grpc_type"];
        let handled = m.add(IntCounterVec::new(Opts::new("grpc_server_handled_total", "Calls ended, by code."), &with_code));
        let seconds = extensive
            .then(|| m.add(HistogramVec::new(HistogramOpts::new("grpc_server_handling_seconds", "Time of calls."), &labels)));
        let methods = Method::ALL
            .iter()
            .map(|method| {
                let values = [method.name(), method.service(), method.kind()];
                MethodMetrics {
                    started: started.with_label_values(&values),
                    handled_ok: handled.with_label_values(&["OK", values[0], values[1], values[2]]),
                    received: received.with_label_values(&values),
                    sent: sent.with_label_values(&values),
                    seconds: seconds.as_ref().map(|s| s.with_label_values(&values)),
                }
            })
            .collect();
        let constant = |name: &str, help: &str, label: &str, value: &str| {
            let gauge = m.add(IntGaugeVec::new(Opts::new(name, help), &[label]));
            gauge.with_label_values(&[value]).set(1);
        };
        constant("etcd_server_version", "API version.", "server_version", crate::version::API);
        constant("etcd_cluster_version", "Cluster version.", "cluster_version", "3.7");
        constant("etcd_server_id", "Member id.", "server_id", &format!("{member_id:x}"));
        let start_time = m.add(Gauge::new("process_start_time_seconds", "Start of the process, seconds since 1970."));
        start_time.set(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64()));
        let enabled = m.gauges("etcd_server_feature_enabled", "1 for a feature that is on.", &["name", "stage"]);
        for (name, on) in [("InitialCorruptCheck", gates.initial_corrupt_check), ("CompactHashCheck", gates.compact_hash_check)] {
            enabled.with_label_values(&[name, "ALPHA"]).set(on.into());
        }
        let gauges = Gauges {
            has_leader: m.gauge("etcd_server_has_leader", "1 if there is a leader."),
            is_leader: m.gauge("etcd_server_is_leader", "1 if this member leads."),
            is_learner: m.gauge("etcd_server_is_learner", "1 if this member has no vote."),
            committed: m.gauge("etcd_server_proposals_committed_total", "Newest committed log entry."),
            applied: m.gauge("etcd_server_proposals_applied_total", "Newest applied log entry."),
            db_size: m.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of the state store on disk and in its write buffers."),
            db_in_use: m.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of retained versions, which the quota counts."),
            quota: m.add(Gauge::new("etcd_server_quota_backend_bytes", "Quota in bytes, 0 for none.")),
            keys: m.gauge("etcd_debugging_mvcc_keys_total", "Live keys."),
            revision: m.gauge("etcd_debugging_mvcc_current_revision", "Current revision."),
            compacted: m.gauge("etcd_debugging_mvcc_compact_revision", "Compacted revision."),
            watchers: m.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
            auth_revision: m.gauge("etcd_debugging_auth_revision", "Auth revision."),
            open_reads: m.gauge("etcd_mvcc_db_open_read_transactions", "Long reads that are under way."),
            alarms: m.gauges("etcd_debugging_server_alarms", "1 for an alarm that is raised.", &["server_id", "alarm_type"]),
            resident: m.gauge("process_resident_memory_bytes", "Resident memory in bytes."),
            virtual_bytes: m.add(Gauge::new("process_virtual_memory_bytes", "Virtual memory in bytes.")),
            virtual_limit: m.add(Gauge::new("process_virtual_memory_max_bytes", "Limit of virtual memory in bytes.")),
            network_received: m.add(Counter::new("process_network_receive_bytes_total", "Bytes that came over the network.")),
            network_sent: m.add(Counter::new("process_network_transmit_bytes_total", "Bytes that went over the network.")),
            cpu_seconds: m.add(Counter::new("process_cpu_seconds_total", "User and system CPU time in seconds.")),
            fd_used: m.gauge("os_fd_used", "Open file descriptors."),
            fd_limit: m.gauge("os_fd_limit", "Limit of file descriptors."),
            process_fds: m.gauge("process_open_fds", "Open file descriptors."),
            process_max_fds: m.gauge("process_max_fds", "Limit of file descriptors."),
        };
        let metrics = Self {
            wal_write: m.histogram("etcd_disk_wal_write_duration_seconds", "Time of a write to the log.", 0.001, 14),
            wal_fsync: m.histogram("etcd_disk_wal_fsync_duration_seconds", "Time of a sync of the log.", 0.001, 14),
            wal_bytes: m.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log."),
            requests: Durations::of_requests(&m),
            applies: Durations::of_applies(&m),
            range_reads: Ranges::new(&m),
            clients: Clients::new(&m),
            backend_commit: m.histogram("etcd_disk_backend_commit_duration_seconds", "Time of applying a batch.", 0.001, 14),
            proposals_pending: m.gauge("etcd_server_proposals_pending", "Proposals that wait."),
            proposals_failed: m.counter("etcd_server_proposals_failed_total", "Proposals that failed."),
            read_indexes_failed: m.counter("etcd_server_read_indexes_failed_total", "Linearizable reads that failed."),
            leases_expired: m.counter("etcd_debugging_server_lease_expired_total", "Expired leases."),
            leases_granted: m.counter("etcd_debugging_lease_granted_total", "Granted leases."),
            leases_renewed: m.counter("etcd_debugging_lease_renewed_total", "Renewed leases."),
            leases_revoked: m.counter("etcd_debugging_lease_revoked_total", "Revoked leases."),
            lease_ttls: m.histogram("etcd_debugging_lease_ttl_total", "Seconds for which leases were granted.", 1.0, 24),
            put_bytes: m.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values that were put."),
            puts: m.counter("etcd_mvcc_put_total", "Applied puts."),
            deletes: m.counter("etcd_mvcc_delete_total", "Applied deletes."),
            txns: m.counter("etcd_mvcc_txn_total", "Transactions."),
            ranges: m.counter("etcd_mvcc_range_total", "Ranges."),
            client_sent: m.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes sent to clients."),
            client_received: m.counter("etcd_network_client_grpc_received_bytes_total", "Bytes received from clients."),
            watch_streams: m.gauge("etcd_debugging_mvcc_watch_stream_total", "Open watch streams."),
            watch_events: m.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers."),
            slow_watchers: m.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are replayed from disk."),
            stream_failures: m.counters(
                "etcd_network_server_stream_failures_total",
                "Streams that failed on this side.",
                &["Type", "API"],
            ),
            watch_loops: WatchLoops::new(&m),
            upkeep: Upkeep::new(&m),
            checks: (
                m.gauges("etcd_server_healthcheck", "1 for a check that went well.", &["type", "name"]),
                m.counters("etcd_server_healthchecks_total", "Checks, by result.", &["type", "name", "status"]),
            ),
            scrapes: scrapes(&m),
            alarms_seen: Mutex::default(),
            health_success: m.counter("etcd_server_health_success", "Good answers of /health."),
            health_failures: m.counter("etcd_server_health_failures", "Bad answers of /health."),
            slow_read_indexes: m
                .counter("etcd_server_slow_read_indexes_total", "Linearizable reads that took too long to prove."),
            slow_applies: m.counter("etcd_server_slow_apply_total", "Applies that took too long."),
            late_heartbeats: m.counter("etcd_server_heartbeat_send_failures_total", "Heartbeats that were sent late."),
            promoted: m.counter("etcd_server_learner_promote_successes", "Learners that this leader promoted."),
            not_promoted: m.counters("etcd_server_learner_promote_failures", "Learners that it did not promote.", &["Reason"]),
            hash_rev: m.histogram("etcd_mvcc_hash_rev_duration_seconds", "Time of hashing the data at a revision.", 0.01, 15),
            peers: PeerMetrics::new(&m, member_id),
            leader_changes: m.counter("etcd_server_leader_changes_seen_total", "Leader changes."),
            methods,
            handled,
            gauges,
            registry: registry.clone(),
        };
        Arc::new(metrics)
    }

    /// A call has begun.
    pub fn started(&self, method: Method) {
        self.methods[method as usize].started.inc();
    }

    /// A message has come in.
    pub fn received(&self, method: Method) {
        self.methods[method as usize].received.inc();
    }

    /// A message has gone out.
    pub fn sent(&self, method: Method) {
        self.methods[method as usize].sent.inc();
    }

    /// A call has ended.
    pub fn handled(&self, method: Method, code: Option<Code>, took: Duration) {
        let m = &self.methods[method as usize];
        match code {
            None => m.handled_ok.inc(),
            code => {
                let values = [Status::code_name(code), method.name(), method.service(), method.kind()];
                self.handled.with_label_values(&values).inc();
            }
        }
        if let Some(seconds) = &m.seconds {
            seconds.observe(took.as_secs_f64());
        }
    }

    /// A stream ends because its client has sent what cannot be read. Who went away, or was too late, counts as no failure.
    pub fn stream_failed(&self, api: &str, why: &Status) {
        if !matches!(why.code, Code::Canceled | Code::DeadlineExceeded) {
            self.stream_failures.with_label_values(&["receive", api]).inc();
        }
    }

    /// A check of `/livez` or `/readyz` has been made.
    pub fn checked(&self, kind: &str, name: &str, went_well: bool) {
        let (last, all) = &self.checks;
        last.with_label_values(&[kind, name]).set(went_well.into());
        all.with_label_values(&[kind, name, if went_well { "success" } else { "error" }]).inc();
    }

    /// Prometheus' text format.
    #[must_use]
    pub fn render(&self, now: &Snapshot) -> Vec<u8> {
        let (asking, asked) = &self.scrapes;
        asking.inc();
        let text = self.text(now);
        asking.dec();
        asked.inc();
        text
    }

    fn text(&self, now: &Snapshot) -> Vec<u8> {
        let g = &self.gauges;
        g.has_leader.set(now.has_leader.into());
        g.is_leader.set(now.is_leader.into());
        g.is_learner.set(now.is_learner.into());
        g.committed.set(int(now.committed));
        g.applied.set(int(now.applied));
        g.db_size.set(int(now.db_size));
        g.db_in_use.set(int(now.db_in_use));
        g.quota.set(now.quota as f64);
        g.keys.set(int(now.keys));
        g.revision.set(now.revision);
        g.compacted.set(now.compacted);
        g.watchers.set(int(now.watchers));
        g.auth_revision.set(int(now.auth_revision));
        g.open_reads.set(int(now.open_reads));
        let mut seen = self.alarms_seen.lock();
        seen.extend(&now.alarms);
        for alarm in &*seen {
            g.alarms.with_label_values(&[format!("{:x}", alarm.0).as_str(), alarm.1]).set(now.alarms.contains(alarm).into());
        }
        drop(seen);
        let process = crate::process::usage();
        g.resident.set(int(process.resident_bytes));
        advance(&g.cpu_seconds, process.cpu_seconds);
        g.virtual_bytes.set(process.virtual_bytes as f64);
        g.virtual_limit.set(process.max_virtual_bytes as f64);
        advance(&g.network_received, process.network_received as f64);
        advance(&g.network_sent, process.network_sent as f64);
        for used in [&g.fd_used, &g.process_fds] {
            used.set(int(process.open_files));
        }
        for limit in [&g.fd_limit, &g.process_max_fds] {
            limit.set(int(process.max_files));
        }
        let mut out = Vec::new();
        // Writing to a vector cannot fail, and the families come from the registry.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alert_rules_ask_for_is_there_from_the_start() {
        let metrics = Metrics::new(0x8e9e_05c5_2164_694d, true, Gates::default());
        let text = String::from_utf8(metrics.render(&Snapshot { has_leader: true, ..Snapshot::default() })).unwrap();
        for name in [
            "etcd_server_has_leader 1",
            "etcd_server_leader_changes_seen_total 0",
            "etcd_server_heartbeat_send_failures_total 0",
            "etcd_server_slow_apply_total 0",
            "etcd_server_slow_read_indexes_total 0",
            "etcd_debugging_auth_revision 0",
            "etcd_server_learner_promote_successes 0",
            "etcd_server_feature_enabled{name=\"InitialCorruptCheck\",stage=\"ALPHA\"} 0",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\"",
            "grpc_server_handling_seconds_bucket{grpc_method=\"Range\"",
            "grpc_server_started_total",
            "etcd_server_proposals_failed_total",
            "etcd_server_proposals_committed_total",
            "etcd_server_proposals_applied_total",
            "etcd_server_proposals_pending",
            "etcd_disk_wal_fsync_duration_seconds_bucket",
            "etcd_disk_backend_commit_duration_seconds_bucket",
            "etcd_mvcc_db_total_size_in_bytes",
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "etcd_server_quota_backend_bytes",
            "etcd_network_client_grpc_sent_bytes_total",
            "etcd_network_client_grpc_received_bytes_total",
            "process_resident_memory_bytes",
            "etcd_server_id{server_id=\"8e9e05c52164694d\"} 1",
            "grpc_type=\"bidi_stream\"",
        ] {
            assert!(text.contains(name), "{name} is missing");
        }
    }

    #[test]
    fn what_dashboards_ask_for_is_there_from_the_start() {
        let metrics = Metrics::new(10, false, Gates::default());
        let text = String::from_utf8(metrics.render(&Snapshot::default())).unwrap();
        for name in [
            "etcd_disk_wal_write_duration_seconds_bucket{le=\"8.192\"} 0",
            "# TYPE etcd_disk_wal_write_bytes_total gauge",
            "etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"0.0001\"} 0",
            "etcd_debugging_lease_ttl_total_bucket{le=\"1\"} 0",
            "etcd_debugging_mvcc_total_put_size_in_bytes 0",
            "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_bucket{le=\"4096\"} 0",
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_bucket{le=\"100\"} 0",
            "etcd_debugging_mvcc_db_compaction_last 0",
            "etcd_debugging_mvcc_db_compaction_keys_total 0",
            "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds_count 0",
            "etcd_debugging_mvcc_pending_events_total 0",
            "etcd_debugging_store_expires_total 0",
            "etcd_debugging_store_watch_requests_total 0",
            "etcd_debugging_store_watchers 0",
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds_count 0",
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds_count 0",
            "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds_count 0",
            "etcd_debugging_server_watch_send_loop_progress_duration_seconds_count 0",
            "etcd_debugging_snap_save_total_duration_seconds_count 0",
            "etcd_debugging_snap_save_marshalling_duration_seconds_count 0",
            "etcd_snap_fsync_duration_seconds_count 0",
            "etcd_snap_db_fsync_duration_seconds_count 0",
            "etcd_snap_db_save_total_duration_seconds_count 0",
            "etcd_disk_backend_snapshot_duration_seconds_count 0",
            "etcd_disk_backend_defrag_duration_seconds_count 0",
            "etcd_disk_defrag_inflight 0",
            "etcd_mvcc_hash_duration_seconds_count 0",
            "etcd_mvcc_db_open_read_transactions 0",
            "etcd_server_snapshot_apply_in_progress_total 0",
            "promhttp_metric_handler_requests_in_flight 1",
            "promhttp_metric_handler_requests_total{code=\"200\"} 0",
            "process_virtual_memory_bytes",
            "process_virtual_memory_max_bytes",
            "process_network_receive_bytes_total",
            "process_network_transmit_bytes_total",
        ] {
            assert!(text.contains(name), "{name} is missing");
        }
        let again = String::from_utf8(metrics.render(&Snapshot::default())).unwrap();
        assert!(again.contains("promhttp_metric_handler_requests_total{code=\"200\"} 1"));
    }

    #[test]
    fn what_happens_is_counted_under_etcds_names_and_labels() {
        let metrics = Metrics::new(10, false, Gates::default());
        metrics.requests.observe(Request::Put, true, Duration::from_millis(3));
        metrics.requests.observe(Request::ReadonlyTxn, false, Duration::from_millis(3));
        metrics.applies.observe(Request::Compaction, true, Duration::from_micros(150));
        metrics.clients.asked(true, "3.7");
        metrics.checked("readyz", "non_learner", false);
        metrics.checked("readyz", "non_learner", true);
        metrics.upkeep.removed(7, Duration::from_millis(2));
        metrics.upkeep.removal_ended(Duration::from_millis(150));
        metrics.watch_loops.sent(0, Duration::from_millis(2));
        metrics.watch_loops.sent(4, Duration::from_millis(8));
        let alarmed = Snapshot { alarms: BTreeSet::from([(11, "NOSPACE")]), ..Snapshot::default() };
        let text = String::from_utf8(metrics.render(&alarmed)).unwrap();
        let loops = "etcd_debugging_server_watch_send_loop_watch_stream_duration";
        for line in [
            "etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Put\",le=\"0.002\"} 0",
            "etcd_server_request_duration_seconds_bucket{success=\"true\",type=\"Put\",le=\"0.004\"} 1",
            "etcd_server_request_duration_seconds_count{success=\"false\",type=\"ReadonlyTxn\"} 1",
            "etcd_server_apply_duration_seconds_bucket{op=\"Compaction\",success=\"true\",version=\"v3\",le=\"0.0002\"} 1",
            "etcd_server_client_requests_total{client_api_version=\"3.7\",type=\"unary\"} 1",
            "etcd_server_healthcheck{name=\"non_learner\",type=\"readyz\"} 1",
            "etcd_server_healthchecks_total{name=\"non_learner\",status=\"error\",type=\"readyz\"} 1",
            "etcd_debugging_mvcc_db_compaction_keys_total 7",
            "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_bucket{le=\"2\"} 1",
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_bucket{le=\"200\"} 1",
            "etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"b\"} 1",
            format!("{loops}_seconds_count 1").as_str(),
            format!("{loops}_per_event_seconds_bucket{{le=\"0.002\"}} 1").as_str(),
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        let text = String::from_utf8(metrics.render(&Snapshot::default())).unwrap();
        assert!(text.contains("etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"b\"} 0"), "it is over");
    }

    #[test]
    fn what_alert_rules_ask_of_other_members_is_there_once_there_are_any() {
        let metrics = Metrics::new(10, false, Gates::default());
        let peers = &metrics.peers;
        peers.is_known(11, true);
        peers.is_active(11, true);
        peers.is_active(11, false);
        peers.traffic(11).sent.unwrap().inc_by(5);
        peers.traffic(11).received.unwrap().inc_by(6);
        peers.sending_failed(11);
        peers.receiving_failed(11);
        peers.answered(11, Duration::from_millis(1));
        peers.sending_snapshot(11).went_well();
        drop(peers.receiving_snapshot(11));
        let text = String::from_utf8(metrics.render(&Snapshot::default())).unwrap();
        for line in [
            "etcd_network_known_peers{Local=\"a\",Remote=\"b\"} 1",
            "etcd_network_active_peers{Local=\"a\",Remote=\"b\"} 0",
            "etcd_network_disconnected_peers_total{Local=\"a\",Remote=\"b\"} 1",
            "etcd_network_peer_sent_bytes_total{To=\"b\"} 5",
            "etcd_network_peer_received_bytes_total{From=\"b\"} 6",
            "etcd_network_peer_sent_failures_total{To=\"b\"} 1",
            "etcd_network_peer_received_failures_total{From=\"b\"} 1",
            "etcd_network_peer_round_trip_time_seconds_count{To=\"b\"} 1",
            "etcd_network_snapshot_send_success{To=\"b\"} 1",
            "etcd_network_snapshot_send_inflights_total{To=\"b\"} 0",
            "etcd_network_snapshot_send_total_duration_seconds_count{To=\"b\"} 1",
            "etcd_network_snapshot_receive_failures{From=\"b\"} 1",
            "etcd_network_snapshot_receive_inflights_total{From=\"b\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
