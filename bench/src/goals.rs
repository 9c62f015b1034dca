//! What Keelson sets out to reach, as ratios within one run of the harness, and whether it did.

use crate::record::Record;
use crate::stats::{Spread, spread};

/// A figure of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Throughput,
    P50,
    P99,
    CpuPerOp,
    Anon,
    Rss,
    Peak,
    Disk,
    Syncs,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::Throughput => "throughput",
            Metric::P50 => "p50",
            Metric::P99 => "p99",
            Metric::CpuPerOp => "CPU per operation",
            Metric::Anon => "anonymous RSS",
            Metric::Rss => "RSS",
            Metric::Peak => "peak RSS",
            Metric::Disk => "disk",
            Metric::Syncs => "syncs",
        }
    }

    pub fn of(self, record: &Record) -> Option<f64> {
        match self {
            Metric::Throughput => record.throughput,
            Metric::P50 => record.p50,
            Metric::P99 => record.p99,
            Metric::CpuPerOp => record.cpu_per_op,
            Metric::Anon => record.anon,
            Metric::Rss => record.rss,
            Metric::Peak => record.peak,
            Metric::Disk => record.disk,
            // Per operation: the same time holds more operations on a faster server.
            Metric::Syncs => record.syncs.zip(record.ops).map(|(syncs, ops)| syncs / ops),
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        self == Metric::Throughput
    }
}

/// Over the runs of one row and server.
pub fn over_runs(records: &[Record], server: &str, row: &str, metric: Metric) -> Option<Spread> {
    let runs = records.iter().filter(|r| r.server == server && r.row == row);
    spread(runs.filter_map(|r| metric.of(r)))
}

/// What a figure of Keelson's is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// etcd's figure of the same row.
    Etcd,
    /// Keelson's own figure of another row.
    Own(&'static str),
}

/// Keelson's figure over `base` shall be at least or at most `factor`.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    pub row: &'static str,
    pub metric: Metric,
    pub base: Base,
    pub factor: f64,
}

const fn goal(row: &'static str, metric: Metric, factor: f64) -> Goal {
    Goal { row, metric, base: Base::Etcd, factor }
}

pub const GOALS: &[Goal] = &[
    goal("put-1000", Metric::Throughput, 1.3),
    goal("put-1000", Metric::CpuPerOp, 0.5),
    goal("put-1", Metric::Throughput, 1.3),
    goal("range-linearizable", Metric::Throughput, 1.2),
    goal("range-linearizable", Metric::CpuPerOp, 0.6),
    goal("range-serializable", Metric::Throughput, 1.2),
    goal("range-serializable", Metric::CpuPerOp, 0.6),
    goal("lease-keepalive", Metric::Throughput, 1.2),
    goal("list-unary", Metric::Throughput, 2.0),
    goal("list-unary", Metric::Peak, 0.5),
    goal("list-paged", Metric::Throughput, 2.0),
    goal("list-paged", Metric::Peak, 0.5),
    goal("list-streamed", Metric::Throughput, 2.0),
    goal("list-streamed", Metric::Peak, 0.5),
    goal("restart", Metric::P50, 0.5),
    goal("fill", Metric::Rss, 0.6),
    Goal { row: "puts-during-compaction", metric: Metric::Throughput, base: Base::Own("puts-before-compaction"), factor: 0.85 },
    Goal { row: "big-beyond-memory", metric: Metric::P99, base: Base::Own("big-in-memory"), factor: 2.0 },
    goal("cluster-put-1", Metric::Throughput, 1.0),
    goal("cluster-put-100", Metric::Throughput, 1.5),
    goal("cluster-put-1000", Metric::Throughput, 1.5),
    goal("cluster-put-1000", Metric::CpuPerOp, 0.5),
    goal("cluster-put-spread", Metric::Throughput, 1.5),
    goal("cluster-range-spread", Metric::Throughput, 1.3),
    Goal { row: "puts-during-join", metric: Metric::Throughput, base: Base::Own("puts-before-join"), factor: 0.9 },
];

/// How one goal came out. Without the figures for it there is no ratio, and no pass either.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub keelson: Option<f64>,
    pub base: Option<f64>,
    pub ratio: Option<f64>,
    pub reached: Option<bool>,
}

impl Goal {
    pub fn outcome(&self, records: &[Record]) -> Outcome {
        let median = |server, row| over_runs(records, server, row, self.metric).map(|s| s.median);
        let keelson = median("keelson", self.row);
        let base = match self.base {
            Base::Etcd => median("etcd", self.row),
            Base::Own(row) => median("keelson", row),
        };
        let ratio = keelson.zip(base).filter(|(_, b)| *b > 0.0).map(|(k, b)| k / b);
        // A median over the runs that happened to succeed would be no pass.
        let failed = records.iter().any(|r| r.server == "keelson" && r.row == self.row && r.ops.is_none());
        let within = |r: f64| {
            if self.metric.more_is_better() { r >= self.factor } else { r <= self.factor }
        };
        let reached = if failed { Some(false) } else { ratio.map(within) };
        Outcome { keelson, base, ratio, reached }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn medians_decide_and_absence_is_no_pass() {
        let run = |server: &str, throughput| Record { server: server.into(), throughput: Some(throughput), ..sample() };
        let mut records = vec![run("etcd", 100.0), run("etcd", 90.0), run("etcd", 1000.0)];
        let goal = goal("put-1", Metric::Throughput, 1.3);
        assert_eq!(goal.outcome(&records).reached, None);
        records.extend([run("keelson", 130.0), run("keelson", 1.0), run("keelson", 131.0)]);
        assert_eq!(goal.outcome(&records).reached, Some(true));
        let failed = Record { ops: None, throughput: None, ..run("keelson", 0.0) };
        assert_eq!(goal.outcome(&[records.clone(), vec![failed]].concat()).reached, Some(false));
        records.extend([run("keelson", 2.0), run("keelson", 3.0)]);
        assert_eq!(goal.outcome(&records).reached, Some(false));
    }
}
