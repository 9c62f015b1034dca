//! The chart: clusters do not notice that the operator goes, and it finds them again.

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{Load, Place, helm, install, kubectl};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn clusters_outlive_the_operator_and_are_found_again() -> Result<()> {
    let place = Place::new("chart").await?;
    place.create("db", json!({})).await?;
    place.settled("db").await?;
    let load = Load::start(place.endpoint("db").await?).await?;
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn people_are_kept_from_mistakes() -> Result<()> {
    let place = Place::new("mistakes").await?;
    place.create("db", json!({ "replicas": 1 })).await?;
    place.settled("db").await?;
    let member = place.members("db").await?[0]["name"].as_str().context("a name")?.to_string();
    let error = place.kubectl(&["delete", "etcdmember", &member]).await.err().context("a member was deleted")?;
    ensure!(format!("{error:#}").contains("only the operator deletes an EtcdMember"), "{error:#}");
    let two = json!({ "apiVersion": "keelson.dev/v1alpha1", "kind": "EtcdCluster", "metadata": { "name": "two" }, "spec": { "replicas": 2 } });
    let said = kubectl(&["create", "--dry-run=server", "-f", "-"], Some(&two.to_string())).await?;
    ensure!(said.contains("an even number of replicas"), "{said}");
    Ok(())
}
