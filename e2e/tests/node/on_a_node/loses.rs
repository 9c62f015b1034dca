//! A node is gone for good, and its volumes with it: the member that was there gives its seat to another elsewhere.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{Load, Lost, Place, figure, kubectl};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn a_lost_node_is_done_without_under_load() -> Result<()> {
    let place = Place::alone("loses").await?;
    place.create("db", json!({ "healing": { "replaceAfter": "5s" } })).await?;
    place.settled("db").await?;
    let pods = place.pods("db").await?;
    let lost = pods.iter().find(|pod| pod["spec"]["nodeName"] == "node3").context("a member on node3")?;
    let lost = lost["metadata"]["name"].as_str().context("a name")?;
    let load = Load::start(place.endpoint("db").await?).await?;

    let began = Instant::now();
    let machine = Lost::node(3)?;
    load.goes_on(50).await?;
    // Nothing but a person, or what looks after machines, can know that it will not come back.
    ensure!(place.members("db").await?.iter().any(|member| member["name"] == lost), "{lost} was given up before anybody said so");
    kubectl(&["delete", "node", "node3", "--wait=false"], None).await?;
    place.kubectl(&["wait", "--for=delete", &format!("etcdmember/{lost}"), "--timeout=240s"]).await?;
    place.settled("db").await?;
    figure("a lost node is done without", format!("{:.1?}", began.elapsed()));
    let members = place.members("db").await?;
    ensure!(members.len() == 3 && members.iter().all(|member| member["name"] != lost), "{members:?}");
    ensure!(place.pods("db").await?.iter().all(|pod| pod["spec"]["nodeName"] != "node3"), "a pod on a node that is gone");
    load.goes_on(50).await?;
    figure("load while a node is lost", load.stop().await?);
    drop(machine);
    Ok(())
}
