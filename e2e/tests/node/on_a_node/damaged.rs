//! A member whose data is damaged gives its seat to another, which gets its data from the others.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use keelson_e2e::node::{Place, figure};
use serde_json::json;

/// Where a write in the middle of the log begins, and long after where the last one can be.
const IN_THE_LOG: u64 = 8192;

/// Overwrites acknowledged writes in a member's log.
fn damage(volume: &Path) -> Result<()> {
    let log = volume.join("data/log");
    let mut segments = fs::read_dir(&log)
        .with_context(|| log.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    let first = segments.first().context("a log has a segment")?;
    fs::OpenOptions::new().write(true).open(first)?.write_all_at(&[0x5a; 2048], IN_THE_LOG)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a whole Kubernetes: make e2e-node"]
async fn damaged_data_is_replaced_under_load() -> Result<()> {
    let place = Place::new("damaged").await?;
    let load = place.under_load("db", json!({})).await?;
    load.goes_on(100).await?;

    let members = place.members("db").await?;
    let follower = members.iter().find(|member| member["role"] == "Follower").context("a follower")?;
    let name = follower["name"].as_str().context("a name")?;
    damage(&place.folder(name).await?)?;
    let began = Instant::now();
    place.kubectl(&["delete", "pod", name, "--wait=false"]).await?;
    place.kubectl(&["wait", "--for=delete", &format!("etcdmember/{name}"), "--timeout=240s"]).await?;
    place.settled("db").await?;
    figure("damaged data is replaced", format!("{:.1?}", began.elapsed()));
    let now = place.members("db").await?;
    ensure!(now.len() == 3 && now.iter().all(|member| member["name"] != name), "{now:?}");
    ensure!(place.told().await?.contains(&"DataDamaged".to_string()), "no Event says that data was damaged");

    load.goes_on(50).await?;
    figure("load while damaged data is replaced", load.stop().await?);
    Ok(())
}
