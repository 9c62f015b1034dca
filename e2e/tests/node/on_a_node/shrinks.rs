//! Three members become one.

use anyhow::{Result, ensure};
use keelson_e2e::node::{LONGEST_GAP, Load, MOST_RETRIES, Place, figure};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn three_members_become_one_under_load() -> Result<()> {
    let place = Place::new("shrinks").await?;
    place.set_up("db", json!({})).await?;
    let leader = place.leader("db").await?;
    let load = Load::start(place.endpoint("db").await?).await?;

    place.edit("db", json!({ "replicas": 1 })).await?;
    figure("3 to 1 members", format!("{:.1?}", place.settled("db").await?));
    load.goes_on(50).await?;
    let report = load.stop().await?;
    figure("load while shrinking", &report);
    report.within(MOST_RETRIES, LONGEST_GAP)?;
    let members = place.members("db").await?;
    ensure!(members.len() == 1 && members[0]["name"] == leader.as_str(), "{leader} led and was to stay: {members:?}");
    let pods = place.get(&["pods", "--selector", "keelson.dev/cluster=db"]).await?;
    ensure!(pods["items"].as_array().is_some_and(|pods| pods.len() == 1), "{pods}");
    Ok(())
}
