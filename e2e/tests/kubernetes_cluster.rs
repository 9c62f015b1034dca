//! Kubernetes' apiserver on three members that die, restart and are replaced under it: no object is lost, and no
//! watcher misses, repeats or reorders anything.
//!
//! Environment, for longer runs: `KEELSON_KUBE_CHURN` seconds of killing the leader every 20 s (60).
//! `KEELSON_UNDER_TEST=etcd` runs it on etcd, which tests the test.

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::kubernetes::apiserver::ApiServer;
use keelson_e2e::kubernetes::client::Client;
use keelson_e2e::kubernetes::load::Load;
use keelson_e2e::kubernetes::steps::{RECOVERY_LIMIT, complete, events_are_the_writes, healthy, lists_are_the_events, prepare};
use keelson_e2e::program::Program;

const MEMBERS: usize = 3;
const WORKERS: usize = 8;
const CONFIG_MAPS: usize = 800;
/// Acknowledged writes between one disturbance and the next, at least.
const WRITES_BETWEEN: u64 = 200;
const KILL_EVERY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_apiserver_on_three_members_loses_nothing_while_they_die_restart_and_are_replaced() -> Result<()> {
    let flags = ["--watch-progress-notify-interval=5s"];
    let mut cluster = Cluster::start(Program::under_test()?, MEMBERS, &flags).await?;
    let urls: Vec<String> = cluster.members.iter().map(|m| m.client_url()).collect();
    let mut apiserver = ApiServer::start(&urls.join(",")).await?;
    let result = scenario(&mut cluster, &mut apiserver).await;
    let tails = || cluster.members.iter().map(|m| m.log_tail()).collect::<Vec<_>>().join("\n");
    result.map_err(|error| error.context(format!("{}\n{}", tails(), apiserver.log_tail())))
}

async fn scenario(cluster: &mut Cluster, apiserver: &mut ApiServer) -> Result<()> {
    let begin = Instant::now();
    let told = |what: &str| println!("{:>4} s: {what}", begin.elapsed().as_secs());
    let all: Vec<usize> = (0..MEMBERS).collect();
    let client = apiserver.client().clone();
    prepare(&client).await?;
    let mut load = Load::start(&client, WORKERS, CONFIG_MAPS).await?;
    load.writes(WRITES_BETWEEN).await?;
    told("watching and writing");

    let churn = env::var("KEELSON_KUBE_CHURN").map_or(Ok(60), |text| text.parse().context("KEELSON_KUBE_CHURN"))?;
    let end = Instant::now() + Duration::from_secs(churn);
    while Instant::now() < end {
        let next = Instant::now() + KILL_EVERY;
        let leader = cluster.leader(&all).await?;
        let others: Vec<usize> = all.iter().copied().filter(|n| *n != leader).collect();
        disturbed(&mut load, &client, async || {
            cluster.members[leader].kill();
            cluster.leader(&others).await?;
            cluster.members[leader].restart().await
        })
        .await?;
        load.writes(WRITES_BETWEEN).await?;
        told(&format!("leader {leader} died"));
        let rest = async {
            tokio::time::sleep_until(next.into()).await;
            Ok(())
        };
        load.unless_it_fails(rest).await?;
    }

    for number in all.clone() {
        disturbed(&mut load, &client, async || {
            cluster.members[number].stop().await?;
            cluster.members[number].restart().await
        })
        .await?;
        load.writes(WRITES_BETWEEN).await?;
        told(&format!("member {number} was restarted"));
    }

    let leader = cluster.leader(&all).await?;
    let replaced = (leader + 1) % MEMBERS;
    disturbed(&mut load, &client, async || cluster.replace(replaced, leader).await).await?;
    load.writes(WRITES_BETWEEN).await?;
    told(&format!("member {replaced} was replaced"));
    // The new one is a member like all others: it can do without the one that took it in.
    disturbed(&mut load, &client, async || {
        cluster.members[leader].kill();
        cluster.leader(&all.iter().copied().filter(|n| *n != leader).collect::<Vec<_>>()).await?;
        cluster.members[leader].restart().await
    })
    .await?;
    load.writes(WRITES_BETWEEN).await?;

    let (ledger, mut lists) = load.finish().await?;
    told(&format!(
        "{} writes, {} lists, {} requests failed meanwhile",
        load.traffic.writes(),
        lists.len(),
        load.traffic.excused()
    ));
    lists.extend(load.fresh_lists(&client).await?);
    events_are_the_writes(&mut load, &ledger).await?;
    told("events are the writes");
    lists_are_the_events(&mut load, lists).await?;
    told("lists are the events");
    healthy(&client).await?;
    apiserver.still_runs()?;
    complete(apiserver)
}

/// Does something to the members during which requests may fail, until all is well again.
async fn disturbed(load: &mut Load, client: &Client, what: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    load.traffic.outage_begins();
    load.unless_it_fails(what()).await?;
    load.traffic.store_restarted();
    load.until("the apiserver is back", RECOVERY_LIMIT, async |traffic| Ok(traffic.recovered() && healthy(client).await.is_ok()))
        .await?;
    load.traffic.outage_ends();
    Ok(())
}
