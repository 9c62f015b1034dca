//! Many clusters at once: what they cost the operator and the API server. Members, kubelets and volumes are played, so
//! that the machine is there for those two.

mod members;
mod nodes;

use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use keelson_e2e::kubernetes::metrics::Metrics;
use keelson_e2e::wait;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::ALONE;
use crate::stage::{ACCOUNT, Operator, Stage, is_settled};
use nodes::Nodes;

/// Between two looks at all of them.
const LOOK: Duration = Duration::from_secs(2);
const MIB: f64 = 1024.0 * 1024.0;
/// What the design allows: 100 MB with 200 clusters, a twentieth of a core, so many requests per idle cluster and minute.
const MEMORY: f64 = 100.0e6;
/// Of it, what is there without any cluster.
const MEMORY_BASE: f64 = 30.0e6;
const CPU: f64 = 0.05;
const REQUESTS: f64 = 2.0;
/// In so many minutes everything happens that happens from time to time: clusters are read again, watches begun again.
/// What is counted in less may be none of it, or all.
const PERIOD: f64 = 15.0;
/// By which the API server tells the operator's requests from those of others, its own Lease apart.
const FLOW: &str = "operator";

/// What was used in some time in which nothing happened.
struct Use {
    cpu: f64,
    memory: f64,
    /// To the API server, Leases apart.
    requests: f64,
    minutes: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clusters_cost_little() -> Result<()> {
    let _alone = ALONE.lock().await;
    // `make soak` has 200, and measures over more than the period.
    let clusters = number("KEELSON_CROWD", 40);
    let window = Duration::from_secs(number("KEELSON_CROWD_SECONDS", 30));
    let stage = Stage::without_kubelet().await?;
    let _nodes = Nodes::start(stage.client.clone());
    tell_apart(&stage).await?;
    let operator = stage.operator().await?;

    stage.create("crowd-0", json!({})).await?;
    all_settled(&stage, 1).await?;
    ensure!(requests(&stage).await? > 20.0, "what the operator asks for is not told from what others do");
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

    let memory = MEMORY_BASE + (MEMORY - MEMORY_BASE) * clusters as f64 / 200.0;
    ensure!(many.memory <= memory, "the operator holds {:.0} MiB", many.memory / MIB);
    ensure!(many.cpu <= CPU, "the idle operator takes {:.1} % of a core", many.cpu * 100.0);
    for (clusters, used) in [(1, &one), (clusters, &many)] {
        let allowed = REQUESTS * clusters as f64 * used.minutes.max(PERIOD);
        ensure!(used.requests <= allowed, "{} requests for {clusters} idle in {:.1} minutes", used.requests, used.minutes);
    }
    Ok(())
}

fn tell(clusters: u64, used: &Use) {
    let rate = match used.minutes >= PERIOD {
        true => format!("{:.2} per cluster and minute", used.requests / clusters as f64 / used.minutes),
        false => "too short for a rate".into(),
    };
    println!(
        "figure: operator with {clusters} idle clusters: {:.1} % of a core, {:.0} MiB; {} requests to the API server in \
         {:.0} s ({rate})",
        used.cpu * 100.0,
        used.memory / MIB,
        used.requests,
        used.minutes * 60.0
    );
}

/// Requests are counted by the schema that they fall under, the one with the lowest precedence of those that fit.
async fn tell_apart(stage: &Stage) -> Result<()> {
    let flows = [("operator-leases", 400, "coordination.k8s.io", "leases"), (FLOW, 500, "*", "*")];
    for (name, precedence, group, resource) in flows {
        let which = json!({
            "verbs": ["*"], "apiGroups": [group], "resources": [resource], "namespaces": ["*"], "clusterScope": true,
        });
        let schema: FlowSchema = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "priorityLevelConfiguration": { "name": "workload-low" },
                "matchingPrecedence": precedence,
                "rules": [{ "subjects": [{ "kind": "User", "user": { "name": ACCOUNT } }], "resourceRules": [which] }],
            },
        }))?;
        Api::all(stage.client.clone()).create(&PostParams::default(), &schema).await?;
    }
    Ok(())
}

async fn all_settled(stage: &Stage, clusters: u64) -> Result<()> {
    wait::until_every(LOOK, "all clusters settle", Duration::from_secs(30 + 6 * clusters), async || {
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

/// Of the operator, so far.
async fn requests(stage: &Stage) -> Result<f64> {
    let metrics = Metrics::read(stage.api_server()).await?;
    Ok(metrics.sum("apiserver_flowcontrol_dispatched_requests_total", &[&format!("flow_schema=\"{FLOW}\"")]))
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
