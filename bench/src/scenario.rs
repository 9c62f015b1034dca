//! The scenarios, and what each needs to run. A scenario starts its own server on fresh data and
//! yields one row or more.

use std::path::PathBuf;

use anyhow::Result;

use crate::cgroup::Cgroup;
use crate::measure::Measured;
use crate::server::{Program, Server};
use crate::sizes::Sizes;
use crate::syncs::Counter;
use crate::{big, compaction, join, list, restart, standard, watchers};

/// What every scenario shares.
#[derive(Debug)]
pub struct Bench {
    pub sizes: Sizes,
    pub tool: PathBuf,
    pub dir: PathBuf,
    pub syncs: Counter,
}

impl Bench {
    pub async fn server(&self, program: &Program) -> Result<Server> {
        Server::start(program, &self.dir, None).await
    }

    /// Three members, as most clusters have.
    pub async fn cluster(&self, program: &Program) -> Result<Server> {
        Server::cluster(program, &self.dir, 3).await
    }

    pub async fn limited_server(&self, program: &Program, group: Cgroup) -> Result<Server> {
        Server::start(program, &self.dir, Some(group)).await
    }
}

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Puts by this many clients.
    Put(u32),
    RangeLinearizable,
    RangeSerializable,
    TxnPut,
    TxnMixed,
    WatchLatency,
    LeaseKeepalive,
    List,
    Watchers,
    Compaction,
    Restart,
    Big,
    /// Puts by this many clients to the leader of three members.
    ClusterPut(u32),
    /// Puts and reads through all three.
    ClusterPutSpread,
    ClusterRangeSpread,
    /// A member joins a cluster that is being written to.
    Join,
}

/// In the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario::Put(1),
    Scenario::Put(100),
    Scenario::Put(1000),
    Scenario::RangeLinearizable,
    Scenario::RangeSerializable,
    Scenario::TxnPut,
    Scenario::TxnMixed,
    Scenario::WatchLatency,
    Scenario::LeaseKeepalive,
    Scenario::List,
    Scenario::Watchers,
    Scenario::Compaction,
    Scenario::Restart,
    Scenario::Big,
    Scenario::ClusterPut(1),
    Scenario::ClusterPut(100),
    Scenario::ClusterPut(1000),
    Scenario::ClusterPutSpread,
    Scenario::ClusterRangeSpread,
    Scenario::Join,
];

impl Scenario {
    pub fn name(self) -> String {
        match self {
            Scenario::Put(clients) => format!("put-{clients}"),
            Scenario::RangeLinearizable => "range-linearizable".into(),
            Scenario::RangeSerializable => "range-serializable".into(),
            Scenario::TxnPut => "txn-put".into(),
            Scenario::TxnMixed => "txn-mixed".into(),
            Scenario::WatchLatency => "watch-latency".into(),
            Scenario::LeaseKeepalive => "lease-keepalive".into(),
            Scenario::List => "list".into(),
            Scenario::Watchers => "watchers".into(),
            Scenario::Compaction => "compaction".into(),
            Scenario::Restart => "restart".into(),
            Scenario::Big => "big".into(),
            Scenario::ClusterPut(clients) => format!("cluster-put-{clients}"),
            Scenario::ClusterPutSpread => "cluster-put-spread".into(),
            Scenario::ClusterRangeSpread => "cluster-range-spread".into(),
            Scenario::Join => "join".into(),
        }
    }

    /// Names of its rows, in the order in which they come.
    pub fn rows(self) -> Vec<String> {
        let names: &[&str] = match self {
            Scenario::List => &["list-unary", "list-paged", "list-streamed"],
            Scenario::Compaction => &["puts-before-compaction", "puts-during-compaction"],
            Scenario::Restart => &["fill", "restart"],
            Scenario::Big => &["big-in-memory", "big-beyond-memory"],
            Scenario::Join => &["puts-before-join", "puts-during-join"],
            _ => return vec![self.name()],
        };
        names.iter().map(|&n| n.to_owned()).collect()
    }

    /// Runs once. What was measured before a failure stays in `rows`.
    pub async fn run(self, bench: &Bench, program: &Program, rows: &mut Vec<Measured>) -> Result<()> {
        match self {
            // Boxed: these futures are large and one of them runs at a time.
            Scenario::List => Box::pin(list::run(bench, program, rows)).await,
            Scenario::Watchers => Box::pin(watchers::run(bench, program, rows)).await,
            Scenario::Compaction => Box::pin(compaction::run(bench, program, rows)).await,
            Scenario::Restart => Box::pin(restart::run(bench, program, rows)).await,
            Scenario::Big => Box::pin(big::run(bench, program, rows)).await,
            Scenario::Join => Box::pin(join::run(bench, program, rows)).await,
            _ => Box::pin(standard::run(self, bench, program, rows)).await,
        }
    }
}
