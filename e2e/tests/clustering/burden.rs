//! What members that lag, do not move, or are not there at all cost the leader: neither its pace nor its memory.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::wait;

use super::broken_transfer::far_behind;
use super::lagging::{SECOND_LIMIT, arrivals};
use super::{LIMIT, fill_randomly, three};

/// How long the pace of before is measured.
const BEFORE: Duration = Duration::from_secs(2);
/// The least that is left of the pace while a state is sent, as a share of it. What is meant to be left is far more
/// (`make bench`); a machine with few cores has the receiver on it, too.
const LEFT: f64 = 0.25;
const SLOWEST: Duration = Duration::from_secs(2);

const VALUE: usize = 100_000;
/// Values that bring the leader to the memory that it works with.
const WARM: usize = 1200;
/// Values that the member which does not move lacks: 200 MB.
const MISSED: usize = 2000;
/// The most that the leader's memory may grow meanwhile: less than half of it, and more than the window of a stream
/// (16 MiB), what a connection holds (32 MiB) and the tail of the log (16 MiB) together.
const GROWTH: u64 = 96 << 20;

/// Writes that nobody can decide, in so many waves: 240 MB, of which 30 MB are asked for at a time.
const WAVES: usize = 8;
const AT_ONCE: usize = 300;
/// When the clients of a wave give up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Puts of one client until the end: how many in a second, and how long the slowest took.
async fn pace(cluster: &Cluster, through: usize, mut is_over: impl FnMut() -> bool) -> Result<(f64, Duration)> {
    let begun = Instant::now();
    let (mut slowest, mut puts) = (Duration::ZERO, 0_u32);
    while !is_over() {
        let asked = Instant::now();
        cluster.put(through, "pace", &puts.to_string()).await?;
        slowest = slowest.max(asked.elapsed());
        puts += 1;
    }
    Ok((f64::from(puts) / begun.elapsed().as_secs_f64(), slowest))
}

#[tokio::test]
async fn the_leader_keeps_its_pace_while_a_member_catches_up() -> Result<()> {
    let (mut cluster, leader, away) = far_behind().await?;
    let begun = Instant::now();
    let (before, _) = pace(&cluster, leader, || begun.elapsed() > BEFORE).await?;
    cluster.members[away].spawn()?;
    let begun = Instant::now();
    let caught_up = Cell::new(false);
    let catching_up = async {
        let serves = wait::until("it has caught up", LIMIT, async || Ok(cluster.get(away, "pace").await.is_ok())).await;
        caught_up.set(true);
        serves
    };
    let (serves, written) = tokio::join!(catching_up, pace(&cluster, leader, || caught_up.get()));
    serves.with_context(|| cluster.members[away].log_tail())?;
    let (meanwhile, slowest) = written?;
    println!("{before:.0} puts/s before; {meanwhile:.0} for {:.1?} meanwhile, the slowest took {slowest:.1?}", begun.elapsed());
    ensure!(meanwhile > before * LEFT, "{before:.0} puts/s before, {meanwhile:.0} while a member catches up");
    ensure!(slowest < SLOWEST, "the slowest put took {slowest:?}");
    ensure!(arrivals(&cluster.members[away]) == 1, "it caught up from the log");
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn a_member_that_does_not_move_costs_the_leader_no_memory() -> Result<()> {
    let cluster = three(&["--snapshot-count=100"]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let still = (leader + 1) % 3;
    fill_randomly(&cluster.members[leader], 0..WARM, VALUE).await?;
    let before = cluster.members[leader].peak_resident_bytes()?;
    // Its connections stay, and take what fits into them.
    cluster.members[still].pause(true)?;
    fill_randomly(&cluster.members[leader], 0..MISSED, VALUE).await?;
    let grown = cluster.members[leader].peak_resident_bytes()?.saturating_sub(before);
    println!("the leader has {} MiB, and {} MiB more for what a member lacks", before >> 20, grown >> 20);
    ensure!(grown < GROWTH, "the leader's memory has grown by {} MiB", grown >> 20);
    ensure!(cluster.leader(&[leader]).await? == leader, "it no longer leads");
    cluster.members[still].pause(false)?;
    wait::until("it has caught up", SECOND_LIMIT, async || Ok(cluster.get(still, "fill/0").await.is_ok())).await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn writes_without_a_quorum_cost_no_memory_once_their_clients_have_given_up() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    fill_randomly(&cluster.members[leader], 0..WARM, VALUE).await?;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        cluster.members[other].kill();
    }
    let before = cluster.members[leader].peak_resident_bytes()?;
    let kv = KvClient::new(cluster.members[leader].channel().await?);
    for wave in 0..WAVES {
        let puts = (0..AT_ONCE).map(|number| {
            let mut kv = kv.clone();
            let key = format!("undecided/{wave}/{number}");
            async move {
                let put = PutRequest { key: key.into(), value: vec![b'v'; VALUE].into(), ..Default::default() };
                let mut put = tonic::Request::new(put);
                put.set_timeout(PATIENCE);
                kv.put(put).await.is_err()
            }
        });
        ensure!(join_all(puts).await.into_iter().all(|refused| refused), "one of three has acknowledged a write");
    }
    let grown = cluster.members[leader].peak_resident_bytes()?.saturating_sub(before);
    println!("the leader has {} MiB, and {} MiB more for what it cannot decide", before >> 20, grown >> 20);
    ensure!(grown < GROWTH, "the leader's memory has grown by {} MiB", grown >> 20);
    for other in others {
        cluster.members[other].spawn()?;
    }
    wait::until("writes go on", LIMIT, async || Ok(cluster.put(leader, "after", "x").await.is_ok())).await?;
    for other in others {
        cluster.members[other].ready().await?;
    }
    cluster.agree(&[0, 1, 2]).await
}
