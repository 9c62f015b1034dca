//! A cluster that is deleted and created again has its data, and so does a volume whose namespace is deleted; one with
//! `deletionPolicy: Delete` leaves nothing.
//!
//! In between there is nobody to write to: the load ends before, and what it was told is looked for afterwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{LOOK, Place, figure, kubectl};
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
    let load = place.under_load("db", json!({})).await?;
    load.goes_on(100).await?;
    let report = load.stop().await?;
    let kept = volumes(&place).await?;
    let behind = behind_claims(&place).await?;
    for volume in &behind {
        ensure!(policy(volume).await? == "Retain", "{volume} would go with its claim");
    }
    place.kubectl(&["delete", "etcdcluster", "db"]).await?;
    wait::until_every(LOOK, "the pods are gone", LIMIT, async || {
        let pods = place.get(&["pods"]).await?;
        Ok(pods["items"].as_array().is_some_and(Vec::is_empty))
    })
    .await?;
    ensure!(volumes(&place).await? == kept, "volumes went with the cluster");

    figure("created again, its volumes adopted", format!("{:.1?}", place.set_up("db", json!({})).await?));
    ensure!(volumes(&place).await? == kept, "other volumes were made");
    report.still_true(&place.endpoint("db").await?).await?;

    place.edit("db", json!({ "deletionPolicy": "Delete" })).await?;
    place.settled("db").await?;
    place.kubectl(&["delete", "etcdcluster", "db", "--timeout=120s"]).await?;
    wait::until_every(LOOK, "nothing is left", LIMIT, async || {
        let left = place.get(&["pods,persistentvolumeclaims,etcdmembers,services,poddisruptionbudgets"]).await?;
        Ok(left["items"].as_array().is_some_and(Vec::is_empty))
    })
    .await?;
    // They go only if they are set back to what their class has.
    wait::until_every(LOOK, "volumes go as their class has it", LIMIT, async || {
        let there = kubectl(&["get", "persistentvolumes", "--output", "name"], None).await?;
        Ok(!behind.iter().any(|volume| there.contains(volume)))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn data_outlives_its_namespace() -> Result<()> {
    let place = Place::new("keeps").await?;
    let load = place.under_load("db", json!({ "replicas": 1 })).await?;
    load.goes_on(10).await?;
    load.stop().await?;
    let behind = behind_claims(&place).await?;
    let volume = behind.first().context("one member has a volume")?;
    let member = place.members("db").await?[0]["name"].as_str().context("a name")?.to_string();
    let data = place.folder(&member).await?.join("data");

    kubectl(&["delete", "namespace", "e2e-keeps", "--timeout=240s"], None).await?;
    ensure!(policy(volume).await? == "Retain", "{volume} was set back");
    ensure!(data.join("log").is_dir(), "{} is gone", data.display());
    kubectl(&["delete", "persistentvolume", volume], None).await?;
    Ok(())
}

/// The names of the volumes behind all claims.
async fn behind_claims(place: &Place) -> Result<Vec<String>> {
    let claims = place.get(&["persistentvolumeclaims"]).await?;
    let names = claims["items"].as_array().into_iter().flatten().map(|claim| claim["spec"]["volumeName"].as_str());
    names.map(|name| Ok(name.context("a bound claim")?.to_string())).collect()
}

/// What becomes of a volume without its claim; an error if it is gone.
async fn policy(volume: &str) -> Result<String> {
    let path = "jsonpath={.spec.persistentVolumeReclaimPolicy}";
    kubectl(&["get", "persistentvolume", volume, "--output", path], None).await
}
