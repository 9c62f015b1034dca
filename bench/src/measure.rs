//! One measurement: rest, load, rest again, and what the server used in between. CPU time is
//! counted until background work has settled, so that work put off is work counted.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::{self, Memory};
use crate::scenario::Bench;
use crate::server::Server;
use crate::stats::Latencies;
use crate::tool::Summary;

/// What a load did.
#[derive(Debug, Clone, Default)]
pub struct Load {
    pub ops: u64,
    pub seconds: f64,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub note: String,
}

impl Load {
    /// From latencies of single operations.
    pub fn of(mut latencies: Latencies, seconds: f64) -> Self {
        let ops = latencies.len() as u64;
        let (p50, p99) = (latencies.percentile(50.0), latencies.percentile(99.0));
        Load { ops, seconds, p50, p99, note: String::new() }
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl From<Summary> for Load {
    fn from(s: Summary) -> Self {
        Load { ops: s.ops, seconds: s.seconds, p50: s.p50, p99: s.p99, note: String::new() }
    }
}

/// What a load cost.
#[derive(Debug, Clone)]
pub struct Measured {
    pub row: String,
    pub load: Load,
    pub cpu_seconds: f64,
    pub memory: Memory,
    pub disk: u64,
    pub syncs: Option<u64>,
    pub settled: bool,
    /// Share of all cores that neither the server nor the loaders used: other people's work and the
    /// kernel's. Where it is large, the figures are noise.
    pub others: Option<f64>,
}

/// Runs `load` on `server` and measures it as `row`.
pub async fn measure(bench: &Bench, server: &Server, row: &str, load: impl Future<Output = Result<Load>>) -> Result<Measured> {
    let rule = bench.sizes.settle;
    let pids = server.pids();
    // What came before must not be charged to this row.
    process::settle(&pids, rule).await?;
    process::reset_peak(&pids);
    let syncs = bench.syncs.start(&pids, server.dir.path()).await?;
    let start = process::cpu(&pids)?;
    let around = Around::start(start)?;
    let load = load.await?;
    let others = around.others(process::cpu(&pids)?)?;
    let settled = process::settle(&pids, rule).await?;
    let used = process::cpu(&pids)?.saturating_sub(start);
    let syncs = match syncs {
        Some(counting) => counting.stop().await,
        None => None,
    };
    Ok(Measured {
        row: row.to_owned(),
        load,
        cpu_seconds: used.as_secs_f64(),
        memory: process::memory(&pids)?,
        disk: server.disk(),
        syncs,
        settled,
        others: Some(others),
    })
}

/// CPU time of the machine, this process and the server when a load starts.
#[derive(Debug)]
struct Around {
    start: Instant,
    machine: Duration,
    own: Duration,
    server: Duration,
}

impl Around {
    fn start(server: Duration) -> Result<Self> {
        let (machine, own) = (process::machine_cpu()?, process::own_cpu()?);
        Ok(Around { start: Instant::now(), machine, own, server })
    }

    fn others(&self, server: Duration) -> Result<f64> {
        let machine = process::machine_cpu()?.saturating_sub(self.machine);
        let ours = process::own_cpu()?.saturating_sub(self.own) + server.saturating_sub(self.server);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all = self.start.elapsed() * cores as u32;
        Ok(machine.saturating_sub(ours).as_secs_f64() / all.as_secs_f64().max(1e-3))
    }
}
