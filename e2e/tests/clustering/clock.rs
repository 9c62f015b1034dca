//! Clocks that somebody sets, on the leader and on a follower, hours ahead and hours back: leases live as long as they
//! were given, neither less nor more, and members can be added.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::{CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest};
use keelson_e2e::chaos::clock::Clock;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{LIMIT, limited, metrics, sum};

/// Of all leases here, in seconds.
const TTL: u64 = 5;
/// Longest that a lease may outlive its time on a busy machine: nothing beside the hours that the clocks are set by.
const LATE: Duration = Duration::from_secs(20);
const HOUR: i64 = 3600;
/// How far two looks at one clock may be apart.
const APART: i64 = 60;

/// A lease with one key.
struct Leased {
    id: i64,
    key: String,
    /// Before it was asked for.
    since: Instant,
}

async fn grant(cluster: &Cluster, through: usize, key: String) -> Result<Leased> {
    let since = Instant::now();
    let mut lease = LeaseClient::connect(cluster.members[through].client_url()).await?;
    let id = lease.lease_grant(limited(LeaseGrantRequest { ttl: TTL.cast_signed(), id: 0 })).await?.into_inner().id;
    let mut kv = KvClient::connect(cluster.members[through].client_url()).await?;
    kv.put(limited(PutRequest { key: key.clone().into(), value: "x".into(), lease: id, ..Default::default() })).await?;
    Ok(Leased { id, key, since })
}

/// Keeps a lease alive until it is told to end.
async fn keep(url: String, id: i64, end: Arc<AtomicBool>) -> Result<()> {
    let mut lease = LeaseClient::connect(url).await?;
    let (ask, asked) = mpsc::unbounded_channel();
    let mut kept = lease.lease_keep_alive(UnboundedReceiverStream::new(asked)).await?.into_inner();
    while !end.load(Ordering::Relaxed) {
        ask.send(LeaseKeepAliveRequest { id })?;
        let left = kept.message().await?.context("an answer")?.ttl;
        ensure!(left == TTL.cast_signed(), "the lease that is kept alive lives for {left} s");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// What a member takes the time to be: it notes when it has last removed what was compacted.
async fn is_believed(cluster: &Cluster, number: usize, ahead: i64) -> Result<()> {
    let revision = cluster.put(number, "newest", "x").await?;
    let mut kv = KvClient::connect(cluster.members[number].client_url()).await?;
    kv.compact(limited(CompactionRequest { revision, physical: true })).await?;
    let mut told = 0.0_f64;
    wait::until("a member tells the time that was set", LIMIT, async || {
        told = sum(&metrics(&cluster.members[number]).await?, "etcd_debugging_mvcc_db_compaction_last").context("a time")?;
        let real = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        Ok((told - (real + ahead) as f64).abs() < APART as f64)
    })
    .await
    .with_context(|| format!("member {number} says {told}"))
}

async fn ends_in_time(cluster: &Cluster, through: usize, lease: &Leased) -> Result<()> {
    wait::until("a lease that nobody keeps ends", LATE, async || Ok(cluster.get(through, &lease.key).await?.is_none())).await?;
    let lived = lease.since.elapsed();
    ensure!(lived >= Duration::from_secs(TTL), "{} has lived for {lived:?}", lease.key);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ends_no_lease_and_keeps_none_alive() -> Result<()> {
    let mut cluster = Cluster::prepared(Program::Keelson, 3, &[], None)?;
    let clocks = cluster.members.iter_mut().map(Clock::install).collect::<Result<Vec<_>>>()?;
    cluster.begin().await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let kept = grant(&cluster, third, "kept".to_owned()).await?;
    let end = Arc::new(AtomicBool::new(false));
    let keeping = tokio::spawn(keep(cluster.members[third].client_url(), kept.id, end.clone()));

    let mut abandoned = Vec::new();
    for (number, hours) in [(leader, 5), (leader, -5), (follower, 5), (follower, -5)] {
        let lease = grant(&cluster, third, format!("abandoned/{number}/{hours}")).await?;
        clocks[number].set(hours * HOUR)?;
        is_believed(&cluster, number, hours * HOUR).await?;
        let is_there = cluster.get(third, &lease.key).await?.is_some();
        ensure!(is_there || lease.since.elapsed() >= Duration::from_secs(TTL), "{} has ended with the jump", lease.key);
        abandoned.push(lease);
    }
    try_join_all(abandoned.iter().map(|lease| ends_in_time(&cluster, third, lease))).await?;
    ensure!(cluster.get(third, &kept.key).await?.is_some(), "the lease that is kept alive has ended");

    // An id is made of the time, too.
    let (new, _) = cluster.add(leader, false).await?;
    cluster.members[new].spawn()?;
    cluster.members[new].ready().await?;
    cluster.agree(&[0, 1, 2, new]).await?;
    end.store(true, Ordering::Relaxed);
    keeping.await??;
    ensure!(cluster.get(new, &kept.key).await?.is_some(), "the lease that is kept alive has ended");
    Ok(())
}
