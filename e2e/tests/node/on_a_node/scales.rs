//! Three members become five, and three again.

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{LONGEST_GAP, MOST_RETRIES, Place, figure};
use serde_json::{Value, json};

fn ids(members: &[Value]) -> Vec<String> {
    members.iter().map(|member| member["id"].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn three_members_become_five_and_three_again_under_load() -> Result<()> {
    let place = Place::new("scales").await?;
    let load = place.under_load("db", json!({})).await?;

    place.edit("db", json!({ "replicas": 5 })).await?;
    figure("3 to 5 members", format!("{:.1?}", place.settled("db").await?));
    load.goes_on(50).await?;
    let five = place.members("db").await?;
    ensure!(five.len() == 5 && five.iter().all(|member| member["voter"] == true), "{five:?}");
    let budget = place.get(&["poddisruptionbudget", "db"]).await?["spec"]["minAvailable"].clone();
    ensure!(budget == 3, "of five voters three are a majority, the budget says {budget}");

    place.edit("db", json!({ "replicas": 3 })).await?;
    figure("5 to 3 members", format!("{:.1?}", place.settled("db").await?));
    load.goes_on(50).await?;
    let endpoint = place.endpoint("db").await?;
    let report = load.stop().await?;
    figure("load while becoming five and three again", &report);
    report.within(MOST_RETRIES, LONGEST_GAP)?;
    let three = place.members("db").await?;
    ensure!(three.len() == 3 && ids(&three).iter().all(|id| ids(&five).contains(id)), "{five:?} became {three:?}");
    let budget = place.get(&["poddisruptionbudget", "db"]).await?["spec"]["minAvailable"].clone();
    ensure!(budget == 2, "of three voters two are a majority, the budget says {budget}");
    let claims = place.get(&["persistentvolumeclaims"]).await?;
    let claims = claims["items"].as_array().context("a list")?;
    let going = |claim: &&Value| !claim["metadata"]["deletionTimestamp"].is_null();
    ensure!(claims.len() - claims.iter().filter(going).count() == 3, "volumes of members that are gone: {claims:?}");
    report.still_true(&endpoint).await
}
