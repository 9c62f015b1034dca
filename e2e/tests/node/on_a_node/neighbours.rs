//! Clusters do not meddle with each other, nor with what is somebody else's.

use anyhow::{Result, ensure};
use keelson_e2e::node::{LOOK, Place, etcdctl};
use keelson_e2e::wait;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn neighbours_and_namesakes_stay_apart() -> Result<()> {
    let here = Place::new("here").await?;
    let there = here.neighbour("there").await?;
    let clusters = [(&here, "db"), (&here, "other"), (&there, "db")];
    for (place, name) in clusters {
        place.create(name, json!({ "replicas": 1 })).await?;
    }
    for (number, (place, name)) in clusters.into_iter().enumerate() {
        place.settled(name).await?;
        etcdctl(&place.endpoint(name).await?, &["put", "who", &number.to_string()]).await?;
    }
    for (number, (place, name)) in clusters.into_iter().enumerate() {
        let said = etcdctl(&place.endpoint(name).await?, &["get", "who", "--print-value-only"]).await?;
        ensure!(said.trim() == number.to_string(), "{name} says {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn what_belongs_to_somebody_else_is_left_alone() -> Result<()> {
    let place = Place::new("foreign").await?;
    place.kubectl(&["create", "service", "clusterip", "db", "--tcp=80"]).await?;
    let theirs = place.get(&["service", "db"]).await?;
    place.create("db", json!({ "replicas": 1 })).await?;
    wait::until_every(LOOK, "it is said what is in the way", std::time::Duration::from_secs(60), async || {
        let cluster = place.get(&["etcdcluster", "db"]).await?;
        Ok(cluster["status"].to_string().contains("Service db was not made for this cluster"))
    })
    .await?;
    ensure!(place.get(&["service", "db"]).await? == theirs, "the Service was touched");
    place.kubectl(&["delete", "service", "db"]).await?;
    place.settled("db").await?;
    Ok(())
}
