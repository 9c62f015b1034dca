//! A cluster that is deleted and created again has its data; one with `deletionPolicy: Delete` leaves nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use keelson_e2e::node::{Load, Place, figure};
use keelson_e2e::wait;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);

async fn volumes(place: &Place) -> Result<Vec<String>> {
    let claims = place.get(&["persistentvolumeclaims"]).await?;
    let claims = claims["items"].as_array().cloned().unwrap_or_default();
    let mut uids: Vec<_> = claims.iter().map(|claim| claim["metadata"]["uid"].to_string()).collect();
    uids.sort();
    Ok(uids)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn deleted_and_created_again_it_has_its_data() -> Result<()> {
    let place = Place::new("returns").await?;
    place.create("db", json!({})).await?;
    place.settled("db").await?;
    let load = Load::start(place.endpoint("db").await?).await?;
    load.goes_on(100).await?;
    let report = load.stop().await?;
    let kept = volumes(&place).await?;
    place.kubectl(&["delete", "etcdcluster", "db"]).await?;
    wait::until("the pods are gone", LIMIT, async || {
        let pods = place.get(&["pods"]).await?;
        Ok(pods["items"].as_array().is_some_and(Vec::is_empty))
    })
    .await?;
    ensure!(volumes(&place).await? == kept, "volumes went with the cluster");

    place.create("db", json!({})).await?;
    figure("created again, its volumes adopted", format!("{:.1?}", place.settled("db").await?));
    ensure!(volumes(&place).await? == kept, "other volumes were made");
    report.still_true(&place.endpoint("db").await?).await?;

    place.edit("db", json!({ "deletionPolicy": "Delete" })).await?;
    place.settled("db").await?;
    place.kubectl(&["delete", "etcdcluster", "db", "--timeout=120s"]).await?;
    wait::until("nothing is left", LIMIT, async || {
        let left = place.get(&["pods,persistentvolumeclaims,etcdmembers,services,poddisruptionbudgets"]).await?;
        Ok(left["items"].as_array().is_some_and(Vec::is_empty))
    })
    .await
}
