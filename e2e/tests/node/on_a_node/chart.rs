//! The chart: clusters do not notice that the operator goes, and it finds them again.

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{LIMIT, LOOK, Load, Place, helm, install, kubectl};
use keelson_e2e::wait;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn clusters_outlive_the_operator_and_are_found_again() -> Result<()> {
    let place = Place::alone("chart").await?;
    let load = place.under_load("db", json!({})).await?;
    helm(&["uninstall", "keelson-operator", "--namespace", "keelson-system", "--wait"]).await?;
    ensure!(place.exists("etcdcluster", "db").await?, "the cluster went with the chart");
    load.goes_on(50).await?;
    install().await?;
    place.edit("db", json!({ "replicas": 1 })).await?;
    place.settled("db").await?;
    load.goes_on(50).await?;
    load.stop().await?;
    Ok(())
}

/// What the operator fills in where a spec leaves a choice, as a newer chart has it.
async fn upgrade(values: &[&str]) -> Result<()> {
    let args = ["upgrade", "keelson-operator", "charts/keelson-operator", "--namespace", "keelson-system", "--wait"];
    helm(&[&args[..], &["--timeout", "2m"], values].concat()).await?;
    Ok(())
}

async fn pods(place: &Place) -> Result<Vec<(String, String, String)>> {
    let text = |value: &serde_json::Value| value.to_string();
    let pods = place.pods("db").await?;
    let mut pods: Vec<_> = pods
        .iter()
        .map(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            (text(&pod["metadata"]["uid"]), text(&pod["spec"]["containers"][0]["image"]), text(&container["restartCount"]))
        })
        .collect();
    pods.sort();
    Ok(pods)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn a_newer_chart_restarts_no_member() -> Result<()> {
    let place = Place::alone("upgrades").await?;
    place.set_up("db", json!({})).await?;
    let before = pods(&place).await?;
    let load = Load::start(place.endpoint("db").await?).await?;
    upgrade(&["--set", "members.version=99.0.0", "--set", "members.image.repository=nowhere.example/keelson"]).await?;
    let seen = async {
        // That the operator has looked again shows in what only the new one was asked for.
        place.edit("db", json!({ "services": { "client": { "annotations": { "asked": "afterwards" } } } })).await?;
        wait::until_every(LOOK, "the newer operator has looked", LIMIT, async || {
            Ok(place.get(&["service", "db"]).await?["metadata"]["annotations"]["asked"] == "afterwards")
        })
        .await?;
        place.settled("db").await?;
        load.goes_on(50).await
    }
    .await;
    // Before anything can fail: the operator is others' too.
    upgrade(&["--reset-values"]).await?;
    seen?;
    ensure!(pods(&place).await? == before, "pods are not what they were: {before:?}");
    load.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn manifests_are_taken_as_they_are() -> Result<()> {
    // The operator is there already: nothing is made, and everything is looked at.
    let _place = Place::new("manifests").await?;
    let said = kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", "manifests/"], None).await?;
    for object in ["etcdclusters.keelson.dev", "etcdmembers.keelson.dev", "deployment.apps/keelson-operator"] {
        ensure!(said.contains(object), "{object} is not among {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn people_are_kept_from_mistakes() -> Result<()> {
    let place = Place::new("mistakes").await?;
    place.set_up("db", json!({ "replicas": 1 })).await?;
    let member = place.members("db").await?[0]["name"].as_str().context("a name")?.to_string();
    let error = place.kubectl(&["delete", "etcdmember", &member]).await.err().context("a member was deleted")?;
    ensure!(format!("{error:#}").contains("only the operator deletes an EtcdMember"), "{error:#}");
    let two = json!({ "apiVersion": "keelson.dev/v1alpha1", "kind": "EtcdCluster", "metadata": { "name": "two" }, "spec": { "replicas": 2 } });
    let said = kubectl(&["create", "--dry-run=server", "-f", "-"], Some(&two.to_string())).await?;
    ensure!(said.contains("an even number of replicas"), "{said}");
    Ok(())
}
