//! Members that cannot begin as their flags say: they end and say why, as etcd's do. And data of another cluster, which is
//! not mixed with this one's.

use std::fs;

use anyhow::{Context, Result, ensure};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::ports::Reservation;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;

use super::LIMIT;

/// A member that has not begun: `named` makes the value of `--initial-cluster` of its name and URL.
fn stranger(program: Program, joins: bool, named: impl Fn(&str, &str) -> String) -> Result<Server> {
    let reservation = Reservation::new()?;
    let mut member = Server::member(program, "stranger", reservation.ports()?, &[])?;
    let named = named(member.name(), &member.peer_url());
    member.set_cluster(named, joins);
    Ok(member)
}

/// What the two programs say, in small letters.
type Words = (&'static str, &'static str);

async fn gives_up(member: &mut Server, (etcd, keelson): Words) -> Result<()> {
    let words = if member.program() == Program::Etcd { etcd } else { keelson };
    member.spawn()?;
    let mut ended = None;
    wait::until("it gives up", LIMIT, async || {
        ended = member.exit_status()?;
        Ok(ended.is_some())
    })
    .await
    .with_context(|| member.log_tail())?;
    ensure!(!ended.context("it has ended")?.success(), "it ends as if all were well");
    let log = member.log().to_lowercase();
    ensure!(log.contains(words), "it does not say {words:?}: {}", member.log_tail());
    Ok(())
}

#[tokio::test]
async fn flags_that_contradict_each_other_are_refused() -> Result<()> {
    for program in [Program::Etcd, Program::Keelson] {
        let mut nameless = stranger(program, false, |_, url| format!("another={url}"))?;
        gives_up(&mut nameless, ("couldn't find local name", "couldn't find local name")).await?;
        let mut twice = stranger(program, false, |name, url| format!("{name}={url},another={url}"))?;
        gives_up(&mut twice, ("has duplicate url", "has duplicate url")).await?;
        let mut elsewhere = stranger(program, false, |name, _| format!("{name}=http://127.0.0.1:1"))?;
        gives_up(&mut elsewhere, ("missing from --initial-advertise-peer-urls", "missing from --initial-advertise-peer-urls"))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_joins_must_know_the_cluster_and_be_known_there() -> Result<()> {
    for program in [Program::Etcd, Program::Keelson] {
        let mut cluster = Cluster::start(program, 1, &[]).await?;
        let there = cluster.named();
        let mut unknown = stranger(program, true, |name, url| format!("{there},{name}={url}"))?;
        gives_up(&mut unknown, ("member count is unequal", "the cluster has no member with peer urls")).await?;

        let (added, _) = cluster.add(0, false).await?;
        let too_many = format!("{},another=http://127.0.0.1:1", cluster.named());
        cluster.members[added].set_cluster(too_many, true);
        gives_up(&mut cluster.members[added], ("member count is unequal", "member count is unequal")).await?;

        // With the right flags it may, even after that.
        let named = cluster.named();
        let member = &mut cluster.members[added];
        member.kill();
        member.set_cluster(named, true);
        member.spawn()?;
        member.ready().await?;
        cluster.agree(&[0, 1]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_data_of_another_cluster_is_not_mixed_with_this_ones() -> Result<()> {
    let mut ours = Cluster::start(Program::Keelson, 3, &[]).await?;
    let mut theirs = Cluster::start(Program::Keelson, 1, &[]).await?;
    ours.put(0, "ours", "x").await?;
    theirs.put(0, "theirs", "x").await?;
    let leader = ours.leader(&[0, 1, 2]).await?;
    let (mixed_up, other) = ((leader + 1) % 3, (leader + 2) % 3);
    ours.members[mixed_up].stop().await?;
    theirs.members[0].stop().await?;
    fs::remove_dir_all(ours.members[mixed_up].data_dir())?;
    fs::rename(theirs.members[0].data_dir(), ours.members[mixed_up].data_dir())?;
    ours.members[mixed_up].spawn()?;
    wait::until("both sides notice it", LIMIT, async || Ok(ours.members[leader].log().contains("cluster ID mismatch")))
        .await
        .with_context(|| ours.members[leader].log_tail())?;
    // To its data it belongs to the other cluster, and this one goes on without it.
    ours.put(other, "still", "x").await?;
    ours.agree(&[leader, other]).await?;
    if ours.members[mixed_up].exit_status()?.is_none() {
        ensure!(ours.get(mixed_up, "ours").await.map_or(true, |found| found.is_none()), "it tells what is not of its cluster");
    }
    for number in [leader, other] {
        ensure!(ours.get(number, "theirs").await?.is_none(), "member {number} has got data of another cluster");
    }
    Ok(())
}
