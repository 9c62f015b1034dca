//! Ways in which stores of this kind have failed as clusters, each as a test of its own. The numbers are those of
//! etcd's issues. Needs root, for network namespaces.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use keelson_e2e::chaos::network::Network;
use keelson_e2e::chaos::stall::Stall;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::ALONE;

const ALL: [usize; 3] = [0, 1, 2];
const LIMIT: Duration = Duration::from_secs(30);
/// Reads that wait at the door of a leader that sleeps.
const READS: u64 = 50;
/// Each is a frame of headers and one of data, which take no less.
const READ_BYTES: u64 = 30;
/// Several times as long as it takes until progress is told.
const QUIET: Duration = Duration::from_millis(600);

async fn three(network: &Network, flags: &[&str]) -> Result<Cluster> {
    let mut cluster = Cluster::seated(Program::under_test()?, network, flags)?;
    cluster.begin().await?;
    Ok(cluster)
}

fn others(than: usize) -> [usize; 2] {
    [(than + 1) % 3, (than + 2) % 3]
}

fn isolate(network: &mut Network, member: usize) -> Result<()> {
    for other in others(member) {
        network.cut(member, other)?;
        network.cut(other, member)?;
    }
    Ok(())
}

/// 20418: a leader is stopped, another is elected, and the first goes on where it was: reads that wait at its door must
/// not be answered from its past.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_an_election_answers_no_read_from_its_past() -> Result<()> {
    let _alone = ALONE.lock().await;
    let network = Network::new(3)?;
    let cluster = three(&network, &[]).await?;
    for round in 0..3 {
        let leader = cluster.leader(&ALL).await?;
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        cluster.put(leader, "key", &old).await?;
        let kv = KvClient::connect(cluster.members[leader].client_url()).await?;
        kv.clone().range(RangeRequest { key: "key".into(), ..Default::default() }).await?;
        cluster.members[leader].pause(true)?;
        let next = cluster.leader(&others(leader)).await?;
        cluster.put(next, "key", &new).await?;
        let mut reads = JoinSet::new();
        for _ in 0..READS {
            let mut kv = kv.clone();
            reads.spawn(async move { kv.range(RangeRequest { key: "key".into(), ..Default::default() }).await });
        }
        wait::until("the reads are in the sockets of the process", LIMIT, async || {
            Ok(cluster.members[leader].unread_bytes()? >= READS * READ_BYTES)
        })
        .await?;
        cluster.members[leader].pause(false)?;
        while let Some(read) = reads.join_next().await {
            // An error is no lie.
            let Ok(answer) = read? else { continue };
            let kv = answer.into_inner().kvs.pop().context("the key is there")?;
            ensure!(kv.value == new, "{:?} was read after {new:?} had been acknowledged", kv.value);
        }
        cluster.agree(&ALL).await?;
    }
    Ok(())
}

/// 20221: a watch that begins in the future, on a member that is still in the past: it is told of no older event, nor of
/// progress that is older than itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_the_future_on_a_lagging_member_is_told_of_nothing_older() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut network = Network::new(3)?;
    let cluster = three(&network, &["--watch-progress-notify-interval=100ms"]).await?;
    let leader = cluster.leader(&ALL).await?;
    let behind = others(leader)[0];
    let before = cluster.put(leader, "key", "before").await?;
    cluster.agree(&ALL).await?;
    isolate(&mut network, behind)?;
    for number in 0..20 {
        cluster.put(leader, "key", &number.to_string()).await?;
    }
    let start_revision = before + 11;
    let create = WatchCreateRequest { key: "key".into(), start_revision, progress_notify: true, ..Default::default() };
    let (ask, asked) = mpsc::unbounded_channel();
    ask.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
    let mut watch = WatchClient::connect(cluster.members[behind].client_url()).await?;
    let mut responses = watch.watch(UnboundedReceiverStream::new(asked)).await?.into_inner();
    ensure!(responses.message().await?.context("created")?.created);
    let progress = || WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
    ask.send(progress())?;
    let told = tokio::time::timeout(QUIET, responses.message()).await;
    ensure!(told.is_err(), "a member at revision {before} tells a watch from {start_revision}: {told:?}");

    network.heal()?;
    let (mut expected, mut progressed) = (start_revision, 0);
    while expected <= before + 20 || progressed == 0 {
        // Asked for again and again, beside what is told by itself.
        ask.send(progress())?;
        let response = tokio::time::timeout(LIMIT, responses.message()).await??.context("the stream goes on")?;
        if response.events.is_empty() {
            let at = response.header.context("a header")?.revision;
            ensure!(at >= start_revision && at < expected, "told of progress to {at}, before the event of {expected}");
            progressed += 1;
        }
        for event in response.events {
            let at = event.kv.context("a key")?.mod_revision;
            ensure!(at == expected, "told of revision {at}, not {expected}");
            expected += 1;
        }
    }
    Ok(())
}

/// 15247: a leader that cannot write any more, and does not know yet that there is another one, must not end leases that
/// are kept alive there.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_replaced_ends_no_lease_that_is_kept_alive_elsewhere() -> Result<()> {
    let _alone = ALONE.lock().await;
    const TTL: i64 = 3;
    let mut network = Network::new(3)?;
    let mut cluster = Cluster::seated(Program::under_test()?, &network, &[])?;
    let mut stalls = Vec::new();
    for member in &mut cluster.members {
        stalls.push(Stall::install(member)?);
    }
    cluster.begin().await?;
    let leader = cluster.leader(&ALL).await?;
    let mut lease = LeaseClient::connect(cluster.members[leader].client_url()).await?;
    let id = lease.lease_grant(LeaseGrantRequest { ttl: TTL, id: 0 }).await?.into_inner().id;
    let mut kv = KvClient::connect(cluster.members[leader].client_url()).await?;
    kv.put(PutRequest { key: "kept".into(), value: "alive".into(), lease: id, ..Default::default() }).await?;

    stalls[leader].set(true)?;
    isolate(&mut network, leader)?;
    let next = cluster.leader(&others(leader)).await?;
    let mut lease = LeaseClient::connect(cluster.members[next].client_url()).await?;
    let end = tokio::time::Instant::now() + Duration::from_secs(3 * TTL.unsigned_abs());
    while tokio::time::Instant::now() < end {
        let keep = tokio_stream::once(LeaseKeepAliveRequest { id });
        let kept = lease.lease_keep_alive(keep).await?.into_inner().message().await?.context("an answer")?;
        ensure!(kept.ttl > 0, "the lease is gone from its new leader");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    network.heal()?;
    stalls[leader].set(false)?;
    wait::until("the old leader is back", LIMIT, async || Ok(cluster.put(leader, "back", "x").await.is_ok())).await?;
    cluster.agree(&ALL).await?;
    ensure!(cluster.get(leader, "kept").await?.as_deref() == Some("alive"), "the old leader has ended the lease");
    Ok(())
}
