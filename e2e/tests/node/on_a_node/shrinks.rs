//! Three members become one.

use anyhow::{Result, ensure};
use keelson_e2e::node::{Load, Place, figure};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn three_members_become_one_under_load() -> Result<()> {
    let place = Place::new("shrinks").await?;
    place.create("db", json!({})).await?;
    place.settled("db").await?;
    let leader = place.leader("db").await?;
    let load = Load::start(place.endpoint("db").await?).await?;

    place.edit("db", json!({ "replicas": 1 })).await?;
    figure("3 to 1 members", format!("{:.1?}", place.settled("db").await?));
    load.goes_on(50).await?;
    figure("load while shrinking", load.stop().await?);
    let members = place.members("db").await?;
    ensure!(members.len() == 1 && members[0]["name"] == leader.as_str(), "{leader} led and was to stay: {members:?}");
    let pods = place.get(&["pods", "--selector", "keelson.dev/cluster=db"]).await?;
    ensure!(pods["items"].as_array().is_some_and(|pods| pods.len() == 1), "{pods}");
    Ok(())
}
