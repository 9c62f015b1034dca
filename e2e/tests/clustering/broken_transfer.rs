//! A whole state on its way to a member that lags, and what breaks it off: the receiver dies at each step of taking it or
//! in the middle of it, the sender dies while it makes it or sends it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;

use super::lagging::{arrivals, arrives, write_past};
use super::{LIMIT, fill, fill_randomly, three};

const FLAGS: [&str; 1] = ["--snapshot-count=100"];
const FAILPOINT: &str = "KEELSON_FAILPOINT";
const KEYS: usize = 500;
/// With so many keys it is several files, which take more than a second to be sent.
const LARGE: usize = 200_000;
const SMALL: usize = 20_000;

/// Waits until a failpoint has ended the process.
async fn dies(server: &mut Server) -> Result<()> {
    let mut ended = None;
    wait::until("the failpoint", LIMIT, async || {
        ended = server.exit_status()?;
        Ok(ended.is_some())
    })
    .await
    .with_context(|| server.log_tail())?;
    let status = ended.context("it has ended")?;
    ensure!(status.signal().is_some(), "it gave up by itself: {status}\n{}", server.log_tail());
    server.kill();
    Ok(())
}

/// Three members with a large state, of which one lies stopped and lacks all of it: with the numbers of the leader and of
/// that one.
pub(super) async fn far_behind() -> Result<(Cluster, usize, usize)> {
    let mut cluster = three(&FLAGS).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
    cluster.members[away].stop().await?;
    fill_randomly(&cluster.members[leader], 0..KEYS, LARGE).await?;
    write_past(&cluster.members[leader], LIMIT).await?;
    Ok((cluster, leader, away))
}

/// Files that have begun to arrive, in the order in which they are sent.
fn arriving(server: &Server) -> Vec<PathBuf> {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        // Which is not there before and after.
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let mut files: Vec<PathBuf> = inside(&server.data_dir().join("incoming")).iter().flat_map(|one| inside(one)).collect();
    files.sort();
    files
}

/// The second file begins when the first is whole.
async fn is_in_the_middle(server: &Server) -> Result<()> {
    wait::until("a first file has arrived", LIMIT, async || Ok(arriving(server).len() >= 2)).await?;
    ensure!(!all_tables_are_there(server), "there was no middle: the state is too small for this test");
    Ok(())
}

/// This file comes after all tables.
fn all_tables_are_there(server: &Server) -> bool {
    arriving(server).iter().any(|file| file.ends_with("CURRENT"))
}

#[tokio::test]
async fn a_member_that_dies_at_any_step_of_taking_a_state_takes_it_when_it_comes_back() -> Result<()> {
    let mut cluster = three(&FLAGS).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
    cluster.members[away].stop().await?;
    write_past(&cluster.members[leader], LIMIT).await?;
    // All of it is there and nothing says so; the old state is away and the new one not in place; it is in place.
    for place in ["incoming-complete", "incoming-swap", "incoming-placed"] {
        let member = &mut cluster.members[away];
        member.set_env(FAILPOINT, Some(format!("{place}:1")));
        member.spawn()?;
        dies(member).await.context(place)?;
    }
    cluster.members[away].set_env(FAILPOINT, None);
    cluster.members[away].restart().await?;
    ensure!(arrivals(&cluster.members[away]) > 0, "it caught up from the log");
    cluster.put(away, "back", "x").await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn a_transfer_that_breaks_goes_on_with_the_files_that_have_arrived() -> Result<()> {
    let (mut cluster, _, away) = far_behind().await?;
    let member = &mut cluster.members[away];
    // What has arrived stays where it is until it was looked at.
    let hold = member.file("hold");
    fs::write(&hold, [])?;
    member.set_env("KEELSON_STALL", Some(format!("incoming-complete:{}", hold.display())));
    member.spawn()?;
    is_in_the_middle(member).await?;
    member.kill();
    let first = arriving(member).into_iter().next().context("a file has arrived")?;
    let arrived = fs::metadata(&first)?.modified()?;

    member.spawn()?;
    wait::until("the rest arrives", LIMIT, async || Ok(all_tables_are_there(member))).await?;
    ensure!(fs::metadata(&first)?.modified()? == arrived, "{} was sent again", first.display());
    fs::remove_file(&hold)?;
    arrives(member, 1).await?;
    member.ready().await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn when_the_sender_dies_in_the_middle_the_next_leader_goes_on() -> Result<()> {
    let (mut cluster, leader, away) = far_behind().await?;
    cluster.members[away].spawn()?;
    is_in_the_middle(&cluster.members[away]).await?;
    cluster.members[leader].kill();
    // The one that lags can only vote.
    let other = (leader + 2) % 3;
    ensure!(cluster.leader(&[other]).await? == other);
    cluster.members[away].ready().await?;
    cluster.agree(&[other, away]).await?;
    cluster.members[leader].restart().await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn a_leader_that_dies_while_it_makes_a_state_makes_another_when_it_is_back() -> Result<()> {
    let armed = |server: &mut Server| server.set_env(FAILPOINT, Some("checkpoint:1".to_owned()));
    let mut cluster = Cluster::start_prepared(Program::Keelson, 3, &FLAGS, None, armed).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.members[away].stop().await?;
    wait::until("the leader dies over it", LIMIT, async || {
        // It dies in the middle of them.
        let _ = fill(&cluster.members[leader], 0..100, SMALL).await;
        Ok(cluster.members[leader].exit_status()?.is_some())
    })
    .await?;
    dies(&mut cluster.members[leader]).await?;
    // Nor may the other one die of the same.
    cluster.members[other].stop().await?;
    for member in &mut cluster.members {
        member.set_env(FAILPOINT, None);
    }
    for number in [leader, other] {
        cluster.members[number].spawn()?;
    }
    let leader = cluster.leader(&[leader, other]).await?;
    write_past(&cluster.members[leader], LIMIT).await?;
    cluster.members[away].restart().await?;
    ensure!(arrivals(&cluster.members[away]) > 0, "it caught up from the log");
    cluster.agree(&[0, 1, 2]).await
}
