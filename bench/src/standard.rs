//! The rows that etcd's own `benchmark` tool has a load for. A short warm-up tells how many
//! operations fill the time that a row should last.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::client;
use crate::measure::{Load, Measured, measure};
use crate::scenario::{Bench, Scenario};
use crate::server::{Program, Server};
use crate::tool::{self, Summary};

/// Clients and connections of the loads that are to saturate the server; etcd's published figures
/// use these numbers.
const MANY: (u32, u32) = (1000, 100);

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(Into::into).collect()
}

/// Options of the load without its `--total`, and who applies it.
struct Shape {
    line: String,
    clients: u32,
    conns: u32,
    time: Duration,
    least: u64,
}

impl Shape {
    fn of(scenario: Scenario, bench: &Bench) -> Self {
        let sizes = &bench.sizes;
        let write = format!("--key-space-size {} --val-size {}", sizes.key_space, sizes.value);
        let key = String::from_utf8_lossy(&client::key(0)).into_owned();
        let read = |consistency| format!("range {key} --consistency {consistency}");
        let put = format!("put --sequential-keys {write}");
        let (line, (clients, conns)) = match scenario {
            // etcd's figures use as many connections as clients up to 100.
            Scenario::Put(n) | Scenario::ClusterPut(n) => (put, (n, n.min(100))),
            Scenario::ClusterPutSpread => (put, MANY),
            Scenario::RangeLinearizable | Scenario::ClusterRangeSpread => (read("l"), MANY),
            Scenario::RangeSerializable => (read("s"), MANY),
            Scenario::TxnPut => (format!("txn-put {write}"), MANY),
            // Half reads of the first 100 keys, half writes. (The tool's own limit of 1000 keys per
            // read measures nothing but the sending of answers.)
            Scenario::TxnMixed => (format!("txn-mixed all --limit 100 {write}"), (100, 100)),
            _ => ("lease-keepalive".into(), (100, 100)),
        };
        let writes = line.starts_with("put") || line.starts_with("txn");
        let (time, least) = match scenario {
            Scenario::Put(1) => (sizes.write_time, 1),
            // Reads of 100 keys bound this one: minutes for a million.
            Scenario::TxnMixed => (sizes.write_time, 1),
            // Three members that share two cores: a million puts would take seven minutes per run.
            Scenario::ClusterPut(_) | Scenario::ClusterPutSpread => (sizes.write_time, 1),
            _ if writes => (sizes.write_time, sizes.write_ops),
            _ => (sizes.read_time, 1),
        };
        Shape { line, clients, conns, time, least }
    }

    async fn apply(&self, bench: &Bench, endpoints: &[&str], total: u64) -> Result<Vec<Summary>> {
        let load = words(&format!("{} --total {total}", self.line));
        tool::run(&bench.tool, endpoints, self.clients, self.conns, &load).await
    }
}

pub async fn run(scenario: Scenario, bench: &Bench, program: &Program, rows: &mut Vec<Measured>) -> Result<()> {
    let row = scenario.name();
    let server = match scenario {
        Scenario::ClusterPut(_) | Scenario::ClusterPutSpread | Scenario::ClusterRangeSpread => bench.cluster(program).await?,
        _ => bench.server(program).await?,
    };
    rows.push(match scenario {
        Scenario::WatchLatency => measure(bench, &server, &row, watch_latency(bench, &server)).await?,
        Scenario::ClusterPutSpread | Scenario::ClusterRangeSpread => {
            saturate(scenario, &row, bench, &server, &server.endpoints()).await?
        }
        _ => saturate(scenario, &row, bench, &server, &[&server.endpoint]).await?,
    });
    Ok(())
}

async fn saturate(scenario: Scenario, row: &str, bench: &Bench, server: &Server, endpoints: &[&str]) -> Result<Measured> {
    let shape = Shape::of(scenario, bench);
    // What the reads find; the writes meet a store that is not empty.
    client::fill(&server.endpoint, 0..10_000, bench.sizes.value).await?;
    let warm = u64::from(shape.clients) * if bench.sizes.quick { 5 } else { 50 } + 500;
    let warm: Load = join(shape.apply(bench, endpoints, warm).await?).context("no warm-up")?;
    let total = match scenario {
        Scenario::LeaseKeepalive => bench.sizes.keepalives,
        _ => {
            let rate = warm.ops as f64 / warm.seconds.max(0.001);
            shape.least.max((rate * shape.time.as_secs_f64()) as u64)
        }
    };
    let load = async { join(shape.apply(bench, endpoints, total).await?).context("no summary") };
    measure(bench, server, row, load).await
}

/// The mixed load is reported in two parts, reads and then writes, that ran at the same time.
fn join(parts: Vec<Summary>) -> Option<Load> {
    let [reads, writes] = parts.as_slice() else {
        return parts.into_iter().next().map(Load::from);
    };
    let larger = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
    let show = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.2}"));
    let note = format!("reads p99 {} ms; writes p99 {} ms", show(reads.p99), show(writes.p99));
    Some(Load {
        ops: reads.ops + writes.ops,
        seconds: reads.seconds.max(writes.seconds),
        p50: larger(reads.p50, writes.p50),
        p99: larger(reads.p99, writes.p99),
        note,
    })
}

/// Watchers of one key; the figures are of the way from a put's answer to the event.
async fn watch_latency(bench: &Bench, server: &Server) -> Result<Load> {
    let puts = bench.sizes.watch_puts;
    let line = format!("watch-latency --put-rate 100 --put-total {puts} --streams 10 --watchers-per-stream 10");
    let parts = tool::run(&bench.tool, &[&server.endpoint], 10, 10, &words(&line)).await?;
    let [put, events] = parts.as_slice() else { anyhow::bail!("expected puts and events") };
    // The tool times the events' part only while it adds them up, so the puts' time it is.
    Ok(Load { seconds: put.seconds, ..events.clone().into() })
}
