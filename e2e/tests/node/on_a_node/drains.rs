//! Nodes are drained: one may go, a second has to wait for it.

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{Place, figure, kubectl};
use serde_json::json;

const DRAIN: [&str; 4] = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=keelson.dev/cluster=db"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn one_node_is_drained_and_a_second_has_to_wait() -> Result<()> {
    let place = Place::alone("drains").await?;
    let load = place.under_load("db", json!({ "pod": { "antiAffinity": "Required" } })).await?;

    kubectl(&[&["drain", "node2", "--timeout=60s"], &DRAIN[..]].concat(), None).await?;
    let error = kubectl(&[&["drain", "node3", "--timeout=10s"], &DRAIN[..]].concat(), None).await;
    // Before anything else can fail: the nodes are others' too.
    kubectl(&["uncordon", "node2", "node3"], None).await?;
    let error = format!("{:#}", error.err().context("two of three members were evicted")?);
    ensure!(error.contains("disruption budget"), "{error}");
    place.settled("db").await?;
    load.goes_on(50).await?;
    figure("load while draining", load.stop().await?);
    Ok(())
}
