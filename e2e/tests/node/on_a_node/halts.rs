//! A change that breaks its first member goes no further, and is taken back by taking back the change.

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{Load, Place, figure};
use serde_json::{Value, json};

/// Starts a change that no member comes back from, and sees it stop at the first, with a word on why.
async fn halts(place: &Place, change: Value, back: Value, why: &str) -> Result<()> {
    let load = Load::start(place.endpoint("db").await?).await?;
    let before = place.pods("db").await?;
    let volumes = place.get(&["persistentvolumeclaims"]).await?["items"].as_array().map(Vec::len);
    place.edit("db", change).await?;
    place.says("db", "Degraded", "True", why).await?;
    load.goes_on(200).await?;
    let uid = |pod: &Value| pod["metadata"]["uid"].to_string();
    let now = place.pods("db").await?;
    let kept = before.iter().filter(|pod| now.iter().any(|other| uid(other) == uid(pod))).count();
    ensure!(kept >= 2, "two of three pods must be left alone, {kept} were");
    let ids = |members: Vec<Value>| members.iter().map(|member| member["id"].to_string()).collect::<Vec<_>>();
    let members = ids(place.members("db").await?);

    place.edit("db", back).await?;
    figure("a roll that halted, taken back", format!("{:.1?}", place.settled("db").await?));
    load.goes_on(50).await?;
    figure("load while a roll halts", load.stop().await?);
    ensure!(ids(place.members("db").await?) == members, "a member that only crashed was replaced");
    let left = place.get(&["persistentvolumeclaims"]).await?["items"].as_array().map(Vec::len);
    ensure!(left == volumes, "volumes: {volumes:?} before, {left:?} now");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn a_flag_that_members_crash_on_stops_at_the_first() -> Result<()> {
    let place = Place::new("crashes").await?;
    place.set_up("db", json!({})).await?;
    let crash = json!({ "extraArgs": { "no-such-flag": "1" } });
    halts(&place, crash, json!({ "extraArgs": null }), "no-such-flag").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn an_image_that_cannot_be_had_stops_at_the_first() -> Result<()> {
    let place = Place::new("images").await?;
    place.set_up("db", json!({})).await?;
    let image = place.pods("db").await?[0]["spec"]["containers"][0]["image"].as_str().context("an image")?.to_string();
    let nowhere = json!({ "image": { "repository": "localhost/no-such-image" } });
    halts(&place, nowhere, json!({ "image": null }), "no-such-image").await?;
    ensure!(place.pods("db").await?.iter().all(|pod| pod["spec"]["containers"][0]["image"] == image.as_str()));
    Ok(())
}
