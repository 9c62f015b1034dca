//! Leases at their end: one that is renewed at the last moment lives on, one that is not holds nothing, over a change of
//! the leader, too.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest};
use keelson_api::v3lockpb::lock_client::LockClient;
use keelson_api::v3lockpb::{LockRequest, UnlockRequest};
use keelson_e2e::wait;
use tonic::transport::Channel;

use super::{LIMIT, limited, three};

/// Of leases that end here: the shortest that there is.
const TTL: i64 = 2;
/// Of one that ends while its owner waits for a lock.
const WAITING: i64 = 5;
/// Of leases that do not end.
const LONG: i64 = 300;
/// Each is renewed at another moment around its end.
const LEASES: u64 = 50;
/// From one of these moments to the next. Together they are longer than leaders take between two looks at what has
/// ended (500 ms), and than a busy machine takes to grant a lease.
const STEP: Duration = Duration::from_millis(40);
/// The first of these moments comes so much before the end.
const EARLY: Duration = Duration::from_millis(300);

async fn grant(channel: &Channel, ttl: i64) -> Result<i64> {
    let mut lease = LeaseClient::new(channel.clone());
    Ok(lease.lease_grant(limited(LeaseGrantRequest { ttl, id: 0 })).await?.into_inner().id)
}

async fn is_gone(channel: &Channel, id: i64) -> Result<bool> {
    let mut lease = LeaseClient::new(channel.clone());
    let ask = LeaseTimeToLiveRequest { id, keys: false };
    Ok(lease.lease_time_to_live(limited(ask)).await?.into_inner().ttl < 0)
}

async fn stand_in_line(channel: &Channel, count: i64) -> Result<()> {
    let mut kv = KvClient::new(channel.clone());
    wait::until("so many stand in line", LIMIT, async || {
        let line = RangeRequest { key: "lock/".into(), range_end: "lock0".into(), ..Default::default() };
        Ok(kv.range(limited(line)).await?.into_inner().count == count)
    })
    .await
}

/// Renews a lease once, around the end of its time: whether it was told to live on, it did.
async fn lives_as_long_as_it_was_told(channel: Channel, number: u64) -> Result<bool> {
    let granted = tokio::time::Instant::now();
    let id = grant(&channel, TTL).await?;
    let key = format!("leased/{number}");
    let mut kv = KvClient::new(channel.clone());
    kv.put(limited(PutRequest { key: key.clone().into(), lease: id, ..Default::default() })).await?;
    let ttl = Duration::from_secs(TTL.unsigned_abs());
    tokio::time::sleep_until(granted + ttl - EARLY + STEP * u32::try_from(number)?).await;

    let asked = Instant::now();
    let keep = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut lease = LeaseClient::new(channel.clone());
    let renewed = lease.lease_keep_alive(keep).await?.into_inner().message().await?.context("an answer")?.ttl;
    if renewed > 0 {
        ensure!(renewed == TTL, "renewed for {renewed} s");
        // Asking for it does not renew it.
        wait::until("the lease ends", LIMIT, async || is_gone(&channel, id).await).await?;
        let lived = asked.elapsed();
        ensure!(lived >= ttl, "lease {number} was told to live for {TTL} s and lived for {lived:?}");
    }
    let left = kv.range(limited(RangeRequest { key: key.into(), ..Default::default() })).await?.into_inner().count;
    ensure!(left == 0, "lease {number} is gone, its key is not");
    Ok(renewed > 0)
}

/// 20615: the renewal races with the end of the lease, through a member that does not keep the clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_told_to_live_on_is_not_gone_before_its_time() -> Result<()> {
    let cluster = three(&[]).await?;
    let follower = (cluster.leader(&[0, 1, 2]).await? + 1) % 3;
    let channel = cluster.members[follower].channel().await?;
    let renewed = try_join_all((0..LEASES).map(|number| lives_as_long_as_it_was_told(channel.clone(), number))).await?;
    let lived = renewed.iter().filter(|lived| **lived).count();
    println!("{lived} of {LEASES} leases were renewed, the others had ended");
    ensure!(lived > 0 && lived < renewed.len(), "{lived} of {LEASES} were renewed: that tries nothing");
    cluster.agree(&[0, 1, 2]).await
}

/// 11408: who waits for a lock while the leader dies, and whose lease ends meanwhile, is not given it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_over_a_change_of_the_leader_holds_no_lock() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let channel = cluster.members[others[0]].channel().await?;
    let (holder, patient) = (grant(&channel, LONG).await?, grant(&channel, LONG).await?);
    let mut locks = LockClient::new(channel.clone());
    let held = locks.lock(limited(LockRequest { name: "lock".into(), lease: holder })).await?.into_inner().key;
    let ending = grant(&channel, WAITING).await?;
    let wait_for = |lease| {
        let mut locks = locks.clone();
        tokio::spawn(async move { locks.lock(LockRequest { name: "lock".into(), lease }).await })
    };
    let late = wait_for(ending);
    stand_in_line(&channel, 2).await?;
    let next = wait_for(patient);
    stand_in_line(&channel, 3).await?;

    cluster.members[leader].kill();
    cluster.leader(&others).await?;
    wait::until("the lease that nobody renews ends under the new leader", LIMIT, async || {
        Ok(is_gone(&channel, ending).await.unwrap_or(false))
    })
    .await?;
    locks.unlock(limited(UnlockRequest { key: held })).await?;
    let late = tokio::time::timeout(LIMIT, late).await.context("whose lease has ended is still waiting")??;
    ensure!(late.is_err(), "a lock was given to a lease that is gone: {late:?}");
    let next = tokio::time::timeout(LIMIT, next).await.context("the next one is not given the lock")??;
    ensure!(next?.into_inner().key.ends_with(format!("{patient:x}").as_bytes()));
    cluster.members[leader].restart().await?;
    cluster.agree(&[0, 1, 2]).await
}

/// Renewals are between the client and the leader: nothing of them is written to the log.
#[tokio::test]
async fn keepalives_leave_the_log_as_it_was() -> Result<()> {
    const KEEPALIVES: usize = 200;
    let cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let channel = cluster.members[(leader + 1) % 3].channel().await?;
    let id = grant(&channel, LONG).await?;
    cluster.agree(&[0, 1, 2]).await?;
    let before = cluster.status(leader).await?.raft_index;
    let requests = tokio_stream::iter((0..KEEPALIVES).map(move |_| LeaseKeepAliveRequest { id }));
    let mut kept = LeaseClient::new(channel).lease_keep_alive(requests).await?.into_inner();
    for _ in 0..KEEPALIVES {
        ensure!(kept.message().await?.context("an answer to each")?.ttl == LONG);
    }
    let after = cluster.status(leader).await?.raft_index;
    ensure!(after == before, "{KEEPALIVES} keepalives have moved the log from {before} to {after}");
    Ok(())
}
