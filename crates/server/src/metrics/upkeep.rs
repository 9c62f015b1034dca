//! What the store does for itself: removing what was compacted, rewriting and copying its files.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, IntCounter, IntGauge};

use super::{Maker, int};

/// Counters and times of it.
pub struct Upkeep {
    removal_step: Histogram,
    removal: Histogram,
    removed_last: IntGauge,
    removed: IntCounter,
    defragmenting: IntGauge,
    defragmentation: Histogram,
    /// Time of a snapshot for a client, until the last of it is on its way.
    pub snapshot: Histogram,
    /// Time of making a checkpoint for another member.
    pub checkpoint: Histogram,
    /// Time of receiving one.
    pub checkpoint_received: Histogram,
    /// Time of getting that to the disk.
    pub checkpoint_synced: Histogram,
    /// Time of hashing all data.
    pub hash: Histogram,
}

impl Upkeep {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        always_zero(m);
        let mvcc = |name: &str| format!("etcd_debugging_mvcc_{name}");
        Self {
            removal_step: m.histogram(
                &mvcc("db_compaction_pause_duration_milliseconds"),
                "Time of a step of removing what was compacted.",
                1.0,
                13,
            ),
            removal: m.histogram(
                &mvcc("db_compaction_total_duration_milliseconds"),
                "Time of removing all that was compacted.",
                100.0,
                14,
            ),
            removed_last: m.gauge(&mvcc("db_compaction_last"), "When that last ended, seconds since 1970; 0 after a start."),
            removed: m.counter(&mvcc("db_compaction_keys_total"), "Removed versions."),
            defragmenting: m.gauge("etcd_disk_defrag_inflight", "1 while files are rewritten."),
            defragmentation: m.histogram("etcd_disk_backend_defrag_duration_seconds", "Time of rewriting files.", 0.1, 13),
            snapshot: m.histogram("etcd_disk_backend_snapshot_duration_seconds", "Time of sending a snapshot.", 0.01, 17),
            checkpoint: m.histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "Time of making a checkpoint for a member.",
                0.001,
                14,
            ),
            checkpoint_received: m.histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "Time of receiving a checkpoint.",
                0.1,
                10,
            ),
            checkpoint_synced: m.histogram(
                "etcd_snap_db_fsync_duration_seconds",
                "Time of getting a received checkpoint to the disk.",
                0.001,
                14,
            ),
            hash: m.histogram("etcd_mvcc_hash_duration_seconds", "Time of hashing all data.", 0.01, 15),
        }
    }

    /// A step of removal has taken so many versions.
    pub fn removed(&self, versions: usize, took: Duration) {
        self.removal_step.observe(millis(took));
        self.removed.inc_by(versions as u64);
    }

    /// Removal has caught up.
    pub fn removal_ended(&self, took: Duration) {
        self.removal.observe(millis(took));
        self.removed_last.set(int(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())));
    }

    /// Files are being rewritten.
    pub fn defragmentation_begins(&self) {
        self.defragmenting.set(1);
    }

    /// They are no longer; it took so long, if it went well.
    pub fn defragmentation_ended(&self, took: Option<Duration>) {
        self.defragmenting.set(0);
        if let Some(took) = took {
            self.defragmentation.observe(took.as_secs_f64());
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// What this store does not have: dashboards that ask for it are told that nothing has happened.
fn always_zero(m: &Maker<'_>) {
    const SYNCED: &str = "There are no such files; see the checkpoints.";
    let store = |name: &str| format!("etcd_debugging_store_{name}");
    m.counter(&store("expires_total"), "There is no v2 store.");
    m.counter(&store("watch_requests_total"), "There is no v2 store.");
    m.gauge(&store("watchers"), "There is no v2 store.");
    m.gauge("etcd_debugging_mvcc_pending_events_total", "Events are fetched when they can be sent; none waits.");
    m.histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "The index is not compacted.", 0.5, 14);
    m.gauge("etcd_server_snapshot_apply_in_progress_total", "A state that arrives is taken between two runs of the process.");
    m.histogram("etcd_snap_fsync_duration_seconds", SYNCED, 0.001, 14);
    m.histogram("etcd_debugging_snap_save_marshalling_duration_seconds", SYNCED, 0.001, 14);
}
