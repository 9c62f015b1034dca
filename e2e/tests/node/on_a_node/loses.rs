//! A node is gone for good, and its volumes with it: the member that was there, and led, gives its seat to another elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{LIMIT, LOOK, Load, Lost, Place, etcdctl, figure, kubectl};
use keelson_e2e::wait;
use serde_json::json;

/// Connections to a machine that is gone are not refused: each costs a client its whole limit, and the Service leads there
/// until the node is known to be gone.
const RETRIES: usize = 10;
const GAP: Duration = Duration::from_secs(10);

/// Makes a member the leader.
async fn lead(place: &Place, name: &str) -> Result<()> {
    let members = place.members("db").await?;
    let heir = members.iter().find(|member| member["name"] == name).context("a member")?;
    if heir["role"] == "Leader" {
        return Ok(());
    }
    let pods = place.pods("db").await?;
    let endpoints: Vec<_> =
        pods.iter().filter_map(|pod| Some(format!("http://{}:2379", pod["status"]["podIP"].as_str()?))).collect();
    etcdctl(&endpoints.join(","), &["move-leader", heir["id"].as_str().context("an id")?]).await?;
    wait::until_every(LOOK, &format!("{name} leads"), LIMIT, async || {
        Ok(place.leader("db").await.is_ok_and(|leader| leader == name))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn a_lost_node_is_done_without_under_load() -> Result<()> {
    let place = Place::alone("loses").await?;
    place.set_up("db", json!({ "healing": { "replaceAfter": "5s" } })).await?;
    let pods = place.pods("db").await?;
    let lost = pods.iter().find(|pod| pod["spec"]["nodeName"] == "node3").context("a member on node3")?;
    let lost = lost["metadata"]["name"].as_str().context("a name")?;
    lead(&place, lost).await?;
    let load = Load::start(place.endpoint("db").await?).await?;

    let began = Instant::now();
    let machine = Lost::node(3)?;
    load.goes_on(50).await?;
    // Nothing but a person, or what looks after machines, can know that it will not come back.
    ensure!(place.members("db").await?.iter().any(|member| member["name"] == lost), "{lost} was given up before anybody said so");
    kubectl(&["delete", "node", "node3", "--wait=false"], None).await?;
    place.kubectl(&["wait", "--for=delete", &format!("etcdmember/{lost}"), "--timeout=240s"]).await?;
    place.settled("db").await?;
    figure("a lost node, the leader's, is done without", format!("{:.1?}", began.elapsed()));
    let members = place.members("db").await?;
    ensure!(members.len() == 3 && members.iter().all(|member| member["name"] != lost), "{members:?}");
    ensure!(place.pods("db").await?.iter().all(|pod| pod["spec"]["nodeName"] != "node3"), "a pod on a node that is gone");
    load.goes_on(50).await?;
    let report = load.stop().await?;
    figure("load while the leader's node is lost", &report);
    drop(machine);
    report.within(RETRIES, GAP)
}
