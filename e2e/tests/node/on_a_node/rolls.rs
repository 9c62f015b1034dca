//! A change of options, resources or version reaches every member, one at a time, the leader last. A version to which
//! there is no way is refused.

use anyhow::{Context, Result, anyhow, ensure};
use keelson_e2e::node::{LONGEST_GAP, Load, MOST_RETRIES, Place, figure};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn changes_are_rolled_out_under_load() -> Result<()> {
    let place = Place::new("rolls").await?;
    let load = place.under_load("db", json!({})).await?;

    let change = json!({ "options": { "snapshotCount": 5000 }, "pod": { "resources": { "requests": { "cpu": "60m" } } } });
    roll(&place, &load, change, "options and resources").await?;
    for pod in place.pods("db").await? {
        let container = &pod["spec"]["containers"][0];
        let args = container["args"].to_string();
        ensure!(args.contains("--snapshot-count=5000"), "{args}");
        ensure!(container["resources"]["requests"]["cpu"] == "60m", "{}", container["resources"]);
    }

    // e2e/node/images.sh packs the same image under the next version, too.
    let before = version(&place).await?;
    let [major, minor, patch] = parts(&before)?;
    let next = format!("{major}.{minor}.{}", patch + 1);
    roll(&place, &load, json!({ "version": next }), "version").await?;
    for pod in place.pods("db").await? {
        let image = pod["spec"]["containers"][0]["image"].to_string();
        ensure!(image.ends_with(&format!(":{next}\"")), "{image} is not of version {next}");
    }
    for claim in place.get(&["persistentvolumeclaims"]).await?["items"].as_array().context("a list")? {
        let writer = &claim["metadata"]["annotations"]["keelson.dev/written-by"];
        ensure!(*writer == next.as_str(), "a volume that {next} wrote says {writer}");
    }

    // To go on from here minor versions are not skipped: nobody is touched, and taking it back is all there is to do.
    let pods = uids(&place).await?;
    let far = format!("{major}.{}.0", minor + 2);
    place.edit("db", json!({ "version": far })).await?;
    place.says("db", "Progressing", "False", "SpecNotInForce").await?;
    place.says("db", "Progressing", "False", &format!("version {far} skips a minor version")).await?;
    load.goes_on(50).await?;
    ensure!(version(&place).await? == next && uids(&place).await? == pods, "a refused version changed something");
    place.edit("db", json!({ "version": next })).await?;
    place.settled("db").await?;
    ensure!(uids(&place).await? == pods, "to take back what was refused changed something");

    ensure!(place.told().await?.contains(&"Roll".to_string()), "no Event tells of it");
    let report = load.stop().await?;
    figure("load while rolling", &report);
    report.within(MOST_RETRIES, LONGEST_GAP)
}

/// Makes a change and sees every pod renewed, the leader's last.
async fn roll(place: &Place, load: &Load, change: Value, what: &str) -> Result<()> {
    let leader = place.leader("db").await?;
    let before = uids(place).await?;
    place.edit("db", change).await?;
    figure(&format!("a roll of 3 members, {what}"), format!("{:.1?}", place.settled("db").await?));
    load.goes_on(50).await?;
    let now = uids(place).await?;
    ensure!(now.len() == 3 && now.iter().all(|uid| !before.contains(uid)), "not every pod was renewed: {before:?}, {now:?}");
    let pods = place.pods("db").await?;
    let created = |name: &str| {
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name);
        pod.and_then(|pod| pod["metadata"]["creationTimestamp"].as_str().map(str::to_string))
    };
    let last = pods.iter().filter_map(|pod| created(pod["metadata"]["name"].as_str()?)).max();
    ensure!(created(&leader) == last, "{leader} led and was to be last: {pods:?}");
    Ok(())
}

async fn uids(place: &Place) -> Result<Vec<String>> {
    let mut uids: Vec<_> = place.pods("db").await?.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
    uids.sort();
    Ok(uids)
}

/// The version that the cluster is of.
async fn version(place: &Place) -> Result<String> {
    let cluster = place.get(&["etcdcluster", "db"]).await?;
    Ok(cluster["status"]["target"]["version"].as_str().context("a version")?.to_string())
}

fn parts(version: &str) -> Result<[u64; 3]> {
    let parts = version.split('.').map(str::parse::<u64>).collect::<Result<Vec<_>, _>>()?;
    <[u64; 3]>::try_from(parts).map_err(|parts| anyhow!("{version} has {} parts, not three", parts.len()))
}
