//! One member becomes three.

use anyhow::{Result, ensure};
use keelson_e2e::node::{Load, Place, figure};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn one_member_becomes_three_under_load() -> Result<()> {
    let place = Place::new("grows").await?;
    place.create("db", json!({ "replicas": 1 })).await?;
    figure("apply to Available, 1 member", format!("{:.1?}", place.available("db").await?));
    place.settled("db").await?;
    let load = Load::start(place.endpoint("db").await?).await?;

    place.edit("db", json!({ "replicas": 3 })).await?;
    figure("1 to 3 members", format!("{:.1?}", place.settled("db").await?));
    load.goes_on(50).await?;
    let report = load.stop().await?;
    figure("load while growing", &report);
    let members = place.members("db").await?;
    ensure!(members.len() == 3 && members.iter().all(|member| member["voter"] == true), "{members:?}");
    let pods = place.get(&["pods", "--selector", "keelson.dev/cluster=db"]).await?;
    let nodes: std::collections::BTreeSet<_> =
        pods["items"].as_array().into_iter().flatten().map(|pod| pod["spec"]["nodeName"].to_string()).collect();
    ensure!(nodes.len() == 3, "three members and three nodes: {nodes:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn three_members_are_there_soon() -> Result<()> {
    let place = Place::new("three").await?;
    place.create("db", json!({})).await?;
    figure("apply to Available, 3 members asked for", format!("{:.1?}", place.available("db").await?));
    figure("and to all 3 voting", format!("{:.1?} later", place.settled("db").await?));
    Ok(())
}
