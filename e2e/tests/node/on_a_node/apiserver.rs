//! A second kube-apiserver stores in a cluster that the operator runs, while that is scaled, healed and rolled.

use anyhow::{Result, ensure};
use keelson_e2e::kubernetes::apiserver::ApiServer;
use keelson_e2e::kubernetes::load::Load;
use keelson_e2e::kubernetes::steps::{events_are_the_writes, lists_are_the_events, prepare};
use keelson_e2e::node::{Place, figure};
use keelson_e2e::wait;
use serde_json::json;

const WORKERS: usize = 4;
const OBJECTS: usize = 400;
const BETWEEN: u64 = 200;
const RECOVERY: std::time::Duration = std::time::Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn an_apiserver_lives_through_the_life_of_its_store() -> Result<()> {
    let place = Place::new("apiserver").await?;
    place.create("store", json!({ "replicas": 1, "extraArgs": { "watch-progress-notify-interval": "5s" } })).await?;
    place.settled("store").await?;
    let mut apiserver = ApiServer::start(&place.endpoint("store").await?).await?;
    let result = scenario(&place, &mut apiserver).await;
    result.map_err(|error| error.context(apiserver.log_tail()))
}

async fn scenario(place: &Place, apiserver: &mut ApiServer) -> Result<()> {
    let client = apiserver.client().clone();
    prepare(&client).await?;
    let mut load = Load::start(&client, WORKERS, OBJECTS).await?;
    load.writes(BETWEEN).await?;

    // A request that is under way when its member ends may fail; what was acknowledged may not be lost.
    load.traffic.outage_begins();
    place.edit("store", json!({ "replicas": 3 })).await?;
    place.settled("store").await?;
    load.writes(BETWEEN).await?;
    let leader = place.leader("store").await?;
    place.kubectl(&["delete", "pod", &leader]).await?;
    place.settled("store").await?;
    load.writes(BETWEEN).await?;
    place.edit("store", json!({ "options": { "snapshotCount": 5000 } })).await?;
    place.settled("store").await?;
    load.writes(BETWEEN).await?;
    load.traffic.store_restarted();
    wait::until("every kind is written again", RECOVERY, async || Ok(load.traffic.recovered())).await?;
    load.traffic.outage_ends();
    apiserver.still_runs()?;
    load.writes(BETWEEN).await?;

    let (ledger, mut lists) = load.finish().await?;
    figure("requests of a kube-apiserver's clients that failed meanwhile", load.traffic.excused());
    figure("of so many writes", load.traffic.writes());
    lists.extend(load.fresh_lists(&client).await?);
    ensure!(!lists.is_empty(), "no list was taken");
    events_are_the_writes(&mut load, &ledger).await?;
    lists_are_the_events(&mut load, lists).await?;
    apiserver.still_runs()
}
