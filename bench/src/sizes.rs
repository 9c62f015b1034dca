//! How big each load is, in the full and in the short form. One place, so that both servers and
//! every scenario are bound by the same numbers.

use std::time::Duration;

/// Sizes of every scenario.
#[derive(Debug, Clone)]
pub struct Sizes {
    pub quick: bool,
    /// Bytes of a value where a row does not say otherwise.
    pub value: usize,
    /// How many keys the put rows write over and over: sequentially, so that a million puts make a
    /// million keys.
    pub key_space: u64,
    /// A write row lasts at least this long; the number of operations is derived from a warm-up.
    pub write_time: Duration,
    /// ... and writes at least this often, unless it has one client only: at one sync per put, a
    /// million puts of one client would take a quarter of an hour per run.
    pub write_ops: u64,
    pub read_time: Duration,
    pub keepalives: u64,
    pub watch_puts: u64,
    pub list_objects: u64,
    pub list_value: usize,
    pub lists: u32,
    pub page: i64,
    pub watchers: usize,
    pub watch_rounds: u64,
    pub compact_keys: u64,
    pub compact_revisions: u64,
    /// How long puts are measured before the compaction, and at least during it.
    pub compact_window: Duration,
    pub restart_keys: u64,
    pub cgroup_limit: u64,
    pub big_value: usize,
    pub big_small: u64,
    pub big_full: u64,
    pub big_time: Duration,
    /// What a joining member has to catch up with, in values of `big_value`.
    pub join_bytes: u64,
    pub settle: Settle,
}

/// When background work counts as done: the server used less than `idle` of one core during
/// `quiet`; `limit` bounds the wait.
#[derive(Debug, Clone, Copy)]
pub struct Settle {
    pub idle: f64,
    pub quiet: Duration,
    pub limit: Duration,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Sizes {
    pub fn full() -> Self {
        Sizes {
            quick: false,
            value: 256,
            key_space: 1_000_000,
            write_time: Duration::from_secs(65),
            write_ops: 1_000_000,
            read_time: Duration::from_secs(30),
            keepalives: 300_000,
            watch_puts: 6_000,
            list_objects: 50_000,
            list_value: 2048,
            lists: 10,
            page: 500,
            watchers: 10_000,
            watch_rounds: 200,
            compact_keys: 1_000_000,
            compact_revisions: 5,
            compact_window: Duration::from_secs(30),
            restart_keys: 1_000_000,
            cgroup_limit: GIB,
            big_value: 16 << 10,
            big_small: 100 * MIB,
            big_full: 10 * GIB,
            big_time: Duration::from_secs(60),
            join_bytes: 5 * GIB,
            settle: Settle { idle: 0.05, quiet: Duration::from_secs(3), limit: Duration::from_secs(180) },
        }
    }

    pub fn quick() -> Self {
        Sizes {
            quick: true,
            key_space: 100_000,
            write_time: Duration::from_secs(3),
            write_ops: 2_000,
            read_time: Duration::from_secs(3),
            keepalives: 10_000,
            watch_puts: 300,
            list_objects: 10_000,
            lists: 3,
            watchers: 1_000,
            watch_rounds: 30,
            compact_keys: 20_000,
            compact_window: Duration::from_secs(3),
            restart_keys: 50_000,
            // etcd keeps its last 15,000 log entries in memory, here 16 KiB each: less than this would
            // measure nothing but the kernel killing it.
            cgroup_limit: 512 * MIB,
            big_small: 32 * MIB,
            big_full: 640 * MIB,
            big_time: Duration::from_secs(4),
            join_bytes: 256 * MIB,
            settle: Settle { idle: 0.08, quiet: Duration::from_millis(800), limit: Duration::from_secs(8) },
            ..Self::full()
        }
    }
}
