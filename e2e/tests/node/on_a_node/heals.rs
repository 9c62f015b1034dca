//! A pod that is deleted comes back as the same member.

use std::time::Instant;

use anyhow::{Result, ensure};
use keelson_e2e::node::{LONGEST_GAP, MOST_RETRIES, Place, figure};
use serde_json::{Value, json};

fn id(members: &[Value], name: &str) -> Option<Value> {
    members.iter().find(|member| member["name"] == name).map(|member| member["id"].clone())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn the_leaders_pod_is_deleted_under_load() -> Result<()> {
    let place = Place::new("heals").await?;
    let load = place.under_load("db", json!({})).await?;

    let leader = place.leader("db").await?;
    let before = id(&place.members("db").await?, &leader);
    let uid = place.get(&["pod", &leader]).await?["metadata"]["uid"].clone();
    let began = Instant::now();
    place.kubectl(&["delete", "pod", &leader]).await?;
    place.settled("db").await?;
    figure("a deleted pod, the leader's, is healed", format!("{:.1?}", began.elapsed()));
    ensure!(place.get(&["pod", &leader]).await?["metadata"]["uid"] != uid, "{leader} was not deleted");
    ensure!(id(&place.members("db").await?, &leader) == before, "{leader} came back as another member");

    load.goes_on(50).await?;
    let report = load.stop().await?;
    figure("load while healing", &report);
    report.within(MOST_RETRIES, LONGEST_GAP)
}
