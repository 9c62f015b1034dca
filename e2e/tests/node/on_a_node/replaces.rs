//! A member whose volume is lost gives its seat to another.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{Place, figure};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn a_lost_volume_is_replaced_under_load() -> Result<()> {
    let place = Place::new("replaces").await?;
    let load = place.under_load("db", json!({})).await?;

    let members = place.members("db").await?;
    let follower = members.iter().find(|member| member["role"] == "Follower").context("a follower")?;
    let name = follower["name"].as_str().context("a name")?;
    let began = Instant::now();
    place.kubectl(&["delete", "persistentvolumeclaim", name, "--wait=false"]).await?;
    place.kubectl(&["delete", "pod", name, "--wait=false"]).await?;
    place.kubectl(&["wait", "--for=delete", &format!("etcdmember/{name}"), "--timeout=120s"]).await?;
    place.settled("db").await?;
    figure("a lost volume is replaced", format!("{:.1?}", began.elapsed()));
    let now = place.members("db").await?;
    ensure!(now.len() == 3 && now.iter().all(|member| member["name"] != name), "{now:?}");

    load.goes_on(50).await?;
    figure("load while replacing", load.stop().await?);
    Ok(())
}
