//! Kubernetes' apiserver works on Keelson as on etcd, and gets over its crashes: nothing that it
//! acknowledged is lost, and no watcher misses, repeats or reorders anything.
//!
//! Environment, for longer runs: `KEELSON_KUBE_OBJECTS` config maps (and in proportion the rest),
//! `KEELSON_KUBE_WRITES` before the first crash and `KEELSON_KUBE_KILLS` crashes.
//! `KEELSON_UNDER_TEST=etcd` runs it on etcd, which tests the test.

use std::env;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use keelson_e2e::kubernetes::apiserver::ApiServer;
use keelson_e2e::kubernetes::client::Client;
use keelson_e2e::kubernetes::load::Load;
use keelson_e2e::kubernetes::metrics::Metrics;
use keelson_e2e::kubernetes::object::Kind;
use keelson_e2e::kubernetes::past::Past;
use keelson_e2e::kubernetes::steps::{RECOVERY_LIMIT, complete, events_are_the_writes, healthy, lists_are_the_events, prepare};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

const WORKERS: usize = 8;
/// Acknowledged writes between one crash and the next.
const WRITES_BETWEEN_KILLS: u64 = 300;

/// The apiserver's count of requests to the store that failed.
const STORE_ERRORS: &str = "etcd_request_errors_total";

fn setting(name: &str, default: usize) -> Result<usize> {
    env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is {text}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apiserver_works_on_it_and_gets_over_its_crashes() -> Result<()> {
    // As kubeadm configures etcd: watches without events hear of the revision often.
    let mut store = Server::start(Program::under_test()?, &["--watch-progress-notify-interval=5s"]).await?;
    let mut apiserver = ApiServer::start(&store.client_url()).await?;
    let result = scenario(&mut store, &mut apiserver).await;
    result.map_err(|error| error.context(format!("{}\n{}", store.log_tail(), apiserver.log_tail())))
}

async fn scenario(store: &mut Server, apiserver: &mut ApiServer) -> Result<()> {
    let begin = Instant::now();
    let told = |what: &str| println!("{:>4} s: {what}", begin.elapsed().as_secs());
    let client = apiserver.client().clone();
    prepare(&client).await?;
    let mut load = Load::start(&client, WORKERS, setting("KEELSON_KUBE_OBJECTS", 2_400)?).await?;
    told("watching");

    load.writes(500).await?;
    let past = [Past::remember(&client, Kind::ConfigMap).await?, Past::remember(&client, Kind::Event).await?];
    load.writes(setting("KEELSON_KUBE_WRITES", 9_000)? as u64).await?;
    told(&format!("{} writes", load.traffic.writes()));
    healthy(&client).await?;
    undisturbed(apiserver, &client).await?;
    for past in past {
        load.unless_it_fails(past.is_gone(&client)).await?;
    }
    told("the past is gone");

    for kill in 0..setting("KEELSON_KUBE_KILLS", 4)? {
        load.writes(WRITES_BETWEEN_KILLS).await?;
        load.traffic.outage_begins();
        store.kill();
        store.restart().await?;
        load.traffic.store_restarted();
        let restarted = Instant::now();
        load.until("the apiserver is back", RECOVERY_LIMIT, async |traffic| {
            Ok(traffic.recovered() && healthy(&client).await.is_ok())
        })
        .await?;
        load.traffic.outage_ends();
        apiserver.still_runs()?;
        told(&format!("crash {}: back {:.1?} after the restart", kill + 1, restarted.elapsed()));
    }
    load.writes(WRITES_BETWEEN_KILLS).await?;

    let (ledger, mut lists) = load.finish().await?;
    told(&format!("{} lists, {} requests failed in crashes", lists.len(), load.traffic.excused()));
    for sort in ["whole list", "paged list", "streamed list", "resourceVersionMatch=Exact"] {
        ensure!(lists.iter().any(|(_, list)| list.request.contains(sort)), "no {sort} was taken");
    }
    // What failed before was in the crashes, or asked for the compacted past.
    let failed = Metrics::read(&client).await?.sum(STORE_ERRORS, &[]);
    lists.extend(load.fresh_lists(&client).await?);
    events_are_the_writes(&mut load, &ledger).await?;
    told("events are the writes");
    lists_are_the_events(&mut load, lists).await?;
    told("lists are the events");
    let metrics = Metrics::read(&client).await?;
    ensure!(metrics.sum(STORE_ERRORS, &[]) == failed, "requests fail after the crashes: {}", metrics.tell(STORE_ERRORS));
    healthy(&client).await?;
    apiserver.still_runs()?;
    complete(apiserver)
}

/// Before the first crash no request to the store may have failed, and the apiserver must have
/// used all that it can use of the store.
async fn undisturbed(apiserver: &ApiServer, client: &Client) -> Result<()> {
    let metrics = Metrics::read(client).await?;
    for name in [STORE_ERRORS, "apiserver_storage_decode_errors_total", "apiserver_watch_cache_initialization_errors_total"] {
        ensure!(metrics.sum(name, &[]) == 0.0, "{}", metrics.tell(name));
    }
    ensure!(metrics.sum("etcd_requests_total", &["operation=\"listStream\""]) > 0.0, "RangeStream was never used");
    ensure!(metrics.sum("etcd_requests_total", &["operation=\"list\""]) == 0.0, "lists fell back from RangeStream");
    let consistent = "apiserver_watch_cache_consistent_read_total";
    for kind in [Kind::ConfigMap, Kind::Widget, Kind::Lease] {
        let of = format!("resource=\"{}\"", kind.plural());
        ensure!(metrics.sum(consistent, &[&of, "success=\"true\""]) > 0.0, "no list of {kind:?} came from the cache");
    }
    // A list waits three seconds for the cache, then goes to the store; on a busy machine a few may.
    let (all, late) = (metrics.sum(consistent, &[]), metrics.sum(consistent, &["fallback=\"true\""]));
    ensure!(late * 50.0 <= all, "the cache falls behind: {}", metrics.tell(consistent));
    ensure!(metrics.sum("etcd_bookmark_total", &[]) > 0.0, "no progress was told");
    complete(apiserver)
}
