//! Many clusters at once: what they cost the operator and the API server. Members, kubelets and volumes are played, so
//! that the machine is there for those two.

mod members;
mod nodes;

use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use keelson_e2e::kubernetes::metrics::Metrics;
use keelson_e2e::wait;
use serde_json::json;

use crate::ALONE;
use crate::stage::{Operator, Stage, is_settled};
use nodes::Nodes;

const MIB: f64 = 1024.0 * 1024.0;
/// The goal is 100 MB; 600 connections to members take it to 99 MiB, which is 4 MB more. This much more would be a leak.
const MEMORY: f64 = 125.0 * MIB;
/// What the design allows.
const CPU: f64 = 0.05;
const REQUESTS: f64 = 2.0;

/// What was used in some time in which nothing happened.
struct Use {
    cpu: f64,
    memory: f64,
    /// To the API server, from anybody, Leases apart.
    requests: f64,
    minutes: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clusters_cost_little() -> Result<()> {
    let _alone = ALONE.lock().await;
    let clusters = number("KEELSON_CROWD", 200);
    // Objects are read again every ten minutes: `make soak` measures over more than that.
    let window = Duration::from_secs(number("KEELSON_CROWD_SECONDS", 60));
    let stage = Stage::without_kubelet().await?;
    let _nodes = Nodes::start(stage.client.clone());
    let operator = stage.operator().await?;

    stage.create("crowd-0", json!({})).await?;
    all_settled(&stage, 1).await?;
    let one = idle(&stage, &operator, window).await?;
    tell(1, &one);

    let began = Instant::now();
    for n in 1..clusters {
        stage.create(&format!("crowd-{n}"), json!({})).await?;
    }
    all_settled(&stage, clusters).await.with_context(|| operator.log().lines().rev().take(20).collect::<Vec<_>>().join("\n"))?;
    println!("figure: {clusters} clusters of 3 members, from apply to settled: {:.0} s", began.elapsed().as_secs_f64());
    let many = idle(&stage, &operator, window).await?;
    tell(clusters, &many);
    println!("figure: peak memory of the operator: {:.0} MiB", status(&operator, "VmHWM:")? / MIB);

    ensure!(many.memory <= MEMORY, "the operator holds {:.0} MiB", many.memory / MIB);
    ensure!(many.cpu <= CPU, "the idle operator takes {:.1} % of a core", many.cpu * 100.0);
    let each = many.requests / clusters as f64 / many.minutes;
    ensure!(each <= REQUESTS, "{each:.2} requests per idle cluster and minute");
    Ok(())
}

fn tell(clusters: u64, used: &Use) {
    let each = used.requests / clusters as f64 / used.minutes;
    println!(
        "figure: operator with {clusters} idle clusters: {:.1} % of a core, {:.0} MiB; {each:.2} requests to the API server per \
         cluster and minute, over {:.0} s",
        used.cpu * 100.0,
        used.memory / MIB,
        used.minutes * 60.0
    );
}

async fn all_settled(stage: &Stage, clusters: u64) -> Result<()> {
    wait::until("all clusters settle", Duration::from_secs(30 + 6 * clusters), async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let settled = stage.clusters().list(&Default::default()).await?.iter().filter(|cluster| is_settled(cluster)).count();
        Ok(settled as u64 == clusters)
    })
    .await
}

async fn idle(stage: &Stage, operator: &Operator, window: Duration) -> Result<Use> {
    let (began, cpu, requests) = (Instant::now(), seconds(operator)?, requests(stage).await?);
    // Nothing is waited for but time: that nothing happens in it is what is measured.
    tokio::time::sleep(window).await;
    let took = began.elapsed().as_secs_f64();
    Ok(Use {
        cpu: (seconds(operator)? - cpu) / took,
        memory: status(operator, "VmRSS:")?,
        requests: self::requests(stage).await? - requests,
        minutes: took / 60.0,
    })
}

async fn requests(stage: &Stage) -> Result<f64> {
    let metrics = Metrics::read(stage.api_server()).await?;
    let total = |labels: &[&str]| metrics.sum("apiserver_request_total", labels);
    Ok(total(&[]) - total(&["resource=\"leases\""]))
}

/// CPU time of the operator's process so far.
fn seconds(operator: &Operator) -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{}/stat", operator.pid()))?;
    let (_, after_name) = stat.rsplit_once(')').context("a name in brackets")?;
    let fields: Vec<_> = after_name.split_whitespace().collect();
    let ticks = |field: usize| -> Result<f64> { Ok(fields.get(field).context("utime and stime")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// A line of `/proc/PID/status`, in bytes.
fn status(operator: &Operator, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.pid()))?;
    let kib = status.lines().find_map(|l| l.strip_prefix(line)?.split_whitespace().next()).context("no such line")?;
    Ok(kib.parse::<f64>()? * 1024.0)
}

/// What an environment variable says.
pub fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}
