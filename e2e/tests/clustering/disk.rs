//! Disks that hang: a leader hands over when it is told to, and writes go on without it; nothing is acknowledged that is
//! on too few disks.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use keelson_e2e::chaos::stall::Stall;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;

use super::LIMIT;

/// While there is such a file, the log of its server hangs.
const HANG: &str = "log-hangs";

fn may_hang(server: &mut Server) {
    let file = server.file(HANG);
    server.set_env("KEELSON_STALL", Some(format!("log-write:{}", file.display())));
}

#[tokio::test]
async fn a_leader_whose_disk_hangs_hands_over() -> Result<()> {
    let cluster = Cluster::start_prepared(Program::Keelson, 3, &["--disk-stall-handover=300ms"], None, may_hang).await?;
    cluster.put(0, "before", "x").await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let others: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    let file = cluster.members[leader].file(HANG);
    fs::write(&file, [])?;
    // The write that finds the disk hanging is answered by the others.
    wait::until("writes go on", LIMIT, async || Ok(cluster.put(others[0], "hanging", "x").await.is_ok())).await?;
    let next = cluster.leader(&others).await?;
    ensure!(next != leader && cluster.members[leader].log().contains("handing leadership over"));

    fs::remove_file(&file)?;
    wait::until("the old leader follows", LIMIT, async || {
        Ok(cluster.get(leader, "hanging").await.is_ok_and(|value| value.is_some()))
    })
    .await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn a_disk_that_hangs_for_a_moment_changes_nothing_and_by_default_no_leader_hands_over() -> Result<()> {
    let cluster = Cluster::start_prepared(Program::Keelson, 3, &[], None, may_hang).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let file = cluster.members[leader].file(HANG);
    fs::write(&file, [])?;
    let put = cluster.put(leader, "hanging", "x");
    let mut put = std::pin::pin!(put);
    // Long enough for a leader that was told to hand over.
    let waited = tokio::time::timeout(Duration::from_secs(3), put.as_mut()).await;
    ensure!(waited.is_err(), "a write was acknowledged before it was on the leader's disk");
    fs::remove_file(&file)?;
    put.await?;
    ensure!(cluster.leader(&[0, 1, 2]).await? == leader);
    cluster.agree(&[0, 1, 2]).await
}

/// The switch that other tests rely on: it holds up what it says, on every member.
#[tokio::test]
async fn while_no_disk_syncs_nothing_is_acknowledged() -> Result<()> {
    let mut cluster = Cluster::prepared(Program::Keelson, 3, &[], None)?;
    let stalls = cluster.members.iter_mut().map(Stall::install).collect::<Result<Vec<_>>>()?;
    cluster.begin().await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    cluster.put(leader, "before", "x").await?;
    for hanging in [stalls.iter().collect::<Vec<_>>(), stalls[..2].iter().collect(), stalls[1..].iter().collect()] {
        hanging.iter().try_for_each(|stall| stall.set(true))?;
        let waited = tokio::time::timeout(Duration::from_secs(2), cluster.put(leader, "hanging", "x")).await;
        ensure!(!matches!(waited, Ok(Ok(_))), "a write was acknowledged that {} disks of three had not synced", hanging.len());
        hanging.iter().try_for_each(|stall| stall.set(false))?;
        wait::until("writes go on", LIMIT, async || Ok(cluster.put(leader, "after", "x").await.is_ok())).await?;
    }
    cluster.agree(&[0, 1, 2]).await
}
