//! A paused cluster is left as it is, whatever its spec says, until it is no longer paused.

use anyhow::{Result, ensure};
use keelson_e2e::node::{LIMIT, LOOK, Place};
use keelson_e2e::wait;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn a_paused_cluster_is_left_alone_under_load() -> Result<()> {
    let place = Place::new("pauses").await?;
    let load = place.under_load("db", json!({ "replicas": 1 })).await?;

    place.edit("db", json!({ "paused": true })).await?;
    place.says("db", "Progressing", "False", "Paused").await?;
    place.edit("db", json!({ "replicas": 3, "options": { "snapshotCount": 5000 } })).await?;
    wait::until_every(LOOK, "the operator has seen the edit", LIMIT, async || {
        let cluster = place.get(&["etcdcluster", "db"]).await?;
        Ok(cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"])
    })
    .await?;
    load.goes_on(200).await?;
    let pods = place.pods("db").await?;
    ensure!(pods.len() == 1, "a paused cluster grew to {} pods", pods.len());
    ensure!(!pods[0]["spec"]["containers"][0]["args"].to_string().contains("snapshot-count"), "a paused cluster was rolled");

    place.edit("db", json!({ "paused": false })).await?;
    place.settled("db").await?;
    ensure!(place.pods("db").await?.len() == 3);
    load.goes_on(50).await?;
    load.stop().await?;
    Ok(())
}
