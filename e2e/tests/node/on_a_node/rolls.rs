//! A change of options reaches every member, one at a time.

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{Load, Place, figure};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn a_change_of_options_is_rolled_out_under_load() -> Result<()> {
    let place = Place::new("rolls").await?;
    place.create("db", json!({})).await?;
    place.settled("db").await?;
    let leader = place.leader("db").await?;
    let load = Load::start(place.endpoint("db").await?).await?;

    place.edit("db", json!({ "options": { "snapshotCount": 5000 } })).await?;
    figure("a roll of 3 members", format!("{:.1?}", place.settled("db").await?));
    load.goes_on(50).await?;
    figure("load while rolling", load.stop().await?);

    let pods = place.get(&["pods", "--selector", "keelson.dev/cluster=db"]).await?;
    let pods = pods["items"].as_array().context("a list")?;
    for pod in pods {
        let args = pod["spec"]["containers"][0]["args"].to_string();
        ensure!(args.contains("--snapshot-count=5000"), "{args}");
    }
    let created = |name: &str| {
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name);
        pod.and_then(|pod| pod["metadata"]["creationTimestamp"].as_str().map(str::to_string))
    };
    let last = pods.iter().filter_map(|pod| created(pod["metadata"]["name"].as_str()?)).max();
    ensure!(created(&leader) == last, "{leader} led and was to be last: {pods:?}");
    ensure!(place.told().await?.contains(&"Roll".to_string()), "no Event tells of it");
    Ok(())
}
