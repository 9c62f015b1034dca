//! What is counted of other members, labelled by their ids as etcd does.

use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Maker;

fn label(id: u64) -> String {
    format!("{id:x}")
}

/// Counters of the bytes of messages to and from one member; none for who is no member.
#[derive(Clone, Default)]
pub struct Traffic {
    /// To it.
    pub sent: Option<IntCounter>,
    /// From it.
    pub received: Option<IntCounter>,
}

/// Counters of all other members.
pub struct PeerMetrics {
    local: String,
    known: IntGaugeVec,
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_failures: IntCounterVec,
    received_failures: IntCounterVec,
    round_trip: HistogramVec,
    sent_snapshots: Transfers,
    received_snapshots: Transfers,
}

/// Checkpoints in one direction.
struct Transfers {
    done: IntCounterVec,
    failed: IntCounterVec,
    under_way: IntGaugeVec,
    seconds: HistogramVec,
}

impl Transfers {
    fn new(m: &Maker<'_>, direction: &str, label: &str) -> Self {
        let name = |rest: &str| format!("etcd_network_snapshot_{direction}_{rest}");
        Self {
            done: m.counters(&name("success"), "Checkpoints that went well.", &[label]),
            failed: m.counters(&name("failures"), "Checkpoints that broke off.", &[label]),
            under_way: m.gauges(&name("inflights_total"), "Checkpoints under way.", &[label]),
            seconds: m.histograms(&name("total_duration_seconds"), "Time of a whole checkpoint.", (0.1, 10), &[label]),
        }
    }

    fn begin(&self, id: u64) -> Transfer {
        let label = [&label(id)];
        let under_way = self.under_way.with_label_values(&label);
        under_way.inc();
        Transfer {
            done: self.done.with_label_values(&label),
            failed: self.failed.with_label_values(&label),
            seconds: self.seconds.with_label_values(&label),
            under_way,
            begun: Instant::now(),
            went_well: false,
        }
    }
}

/// A checkpoint under way; one that is dropped before it went well has failed.
pub struct Transfer {
    done: IntCounter,
    failed: IntCounter,
    seconds: Histogram,
    under_way: IntGauge,
    begun: Instant,
    went_well: bool,
}

impl Transfer {
    /// All of it has arrived.
    pub fn went_well(mut self) {
        self.went_well = true;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.under_way.dec();
        if self.went_well {
            self.done.inc();
            self.seconds.observe(self.begun.elapsed().as_secs_f64());
        } else {
            self.failed.inc();
        }
    }
}

impl PeerMetrics {
    pub(super) fn new(m: &Maker<'_>, member_id: u64) -> Self {
        let pair = ["Local", "Remote"];
        let metrics = Self {
            local: label(member_id),
            known: m.gauges("etcd_network_known_peers", "1 for a member of the cluster, 0 for one that left.", &pair),
            active: m.gauges("etcd_network_active_peers", "1 for a member that can be reached.", &pair),
            disconnected: m.counters("etcd_network_disconnected_peers_total", "How often a member was lost.", &pair),
            sent_bytes: m.counters("etcd_network_peer_sent_bytes_total", "Bytes of messages to a member.", &["To"]),
            received_bytes: m.counters("etcd_network_peer_received_bytes_total", "Bytes of messages from a member.", &["From"]),
            sent_failures: m.counters("etcd_network_peer_sent_failures_total", "Messages that did not get there.", &["To"]),
            received_failures: m.counters(
                "etcd_network_peer_received_failures_total",
                "Messages that were unreadable.",
                &["From"],
            ),
            round_trip: m.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "Time of a question to a member and its answer.",
                (0.0001, 16),
                &["To"],
            ),
            sent_snapshots: Transfers::new(m, "send", "To"),
            received_snapshots: Transfers::new(m, "receive", "From"),
        };
        metrics.is_known(member_id, true);
        metrics
    }

    /// Counters of the bytes to and from a member.
    pub fn traffic(&self, id: u64) -> Traffic {
        let label = [&label(id)];
        Traffic {
            sent: Some(self.sent_bytes.with_label_values(&label)),
            received: Some(self.received_bytes.with_label_values(&label)),
        }
    }

    /// A message did not get there, as far as this member knows.
    pub fn sending_failed(&self, id: u64) {
        self.sent_failures.with_label_values(&[&label(id)]).inc();
    }

    /// A message could not be read.
    pub fn receiving_failed(&self, id: u64) {
        self.received_failures.with_label_values(&[&label(id)]).inc();
    }

    /// A member has answered after so long.
    pub fn answered(&self, id: u64, took: Duration) {
        self.round_trip.with_label_values(&[&label(id)]).observe(took.as_secs_f64());
    }

    /// Whether a member belongs to the cluster.
    pub fn is_known(&self, id: u64, known: bool) {
        self.known.with_label_values(&[&self.local, &label(id)]).set(known.into());
    }

    /// Whether a member can be reached.
    pub fn is_active(&self, id: u64, active: bool) {
        let labels = [&self.local, &label(id)];
        let gauge = self.active.with_label_values(&labels);
        if gauge.get() == 1 && !active {
            self.disconnected.with_label_values(&labels).inc();
        }
        gauge.set(active.into());
    }

    /// A checkpoint is on its way to a member.
    pub fn sending_snapshot(&self, to: u64) -> Transfer {
        self.sent_snapshots.begin(to)
    }

    /// A checkpoint is coming from a member.
    pub fn receiving_snapshot(&self, from: u64) -> Transfer {
        self.received_snapshots.begin(from)
    }
}
