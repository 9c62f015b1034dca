//! Members that lag so far behind that they are sent the whole state: once, twice in short order, with watches open,
//! while files are rewritten and history is compacted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{CompactionRequest, DefragmentRequest, RangeRequest, WatchCreateRequest, WatchRequest};
use keelson_e2e::chaos::network::Network;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use tokio_stream::StreamExt;

use super::{LIMIT, fill, limited, metrics, sum, three};
use crate::ALONE;

/// Entries are kept for a while for a member that was just sent a state, so a second one takes longer.
pub(super) const SECOND_LIMIT: Duration = Duration::from_secs(120);
const VALUE: usize = 20_000;
/// Between two lots of writes.
const BREATH: Duration = Duration::from_millis(200);
/// Revisions that a compaction leaves.
const KEPT: i64 = 10;
/// Written last of all.
const LAST: &str = "seen/last";
/// How long somebody may take who is asked for nothing that matters.
const CALM: Duration = Duration::from_millis(500);
const ARRIVED: &str = "taking the state that has arrived";

pub(super) fn arrivals(server: &Server) -> usize {
    server.log().matches(ARRIVED).count()
}

/// How often a leader has begun to send its whole state.
async fn offers(leader: &Server) -> Result<f64> {
    let now = metrics(leader).await?;
    let of = |name: &str| sum(&now, &format!("etcd_network_snapshot_send_{name}")).unwrap_or(0.0);
    Ok(of("inflights_total") + of("failures") + of("success"))
}

/// Writes until the leader has let go of what a member lacks, and offers it the whole state.
pub(super) async fn write_past(leader: &Server, limit: Duration) -> Result<()> {
    let before = offers(leader).await?;
    wait::until("the leader offers its whole state", limit, async || {
        fill(leader, 0..100, VALUE).await?;
        // Not more than it takes: all of it stays on three disks.
        tokio::time::sleep(BREATH).await;
        Ok(offers(leader).await? > before)
    })
    .await
}

pub(super) async fn arrives(server: &Server, times: usize) -> Result<()> {
    wait::until("the state arrives", LIMIT, async || Ok(arrivals(server) >= times)).await
}

/// Watches `seen/` through one member, coming back where it was whenever the stream ends, until it has seen `LAST`.
async fn follow(url: String) -> Result<Vec<i64>> {
    let mut seen: Vec<i64> = Vec::new();
    loop {
        match follow_once(&url, &mut seen).await {
            Ok(true) => return Ok(seen),
            Ok(false) => {}
            // The process is gone for a moment.
            Err(e) if e.is::<tonic::transport::Error>() => {}
            Err(e) => return Err(e),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn follow_once(url: &str, seen: &mut Vec<i64>) -> Result<bool> {
    let start_revision = seen.last().map_or(1, |revision| revision + 1);
    let create = WatchCreateRequest { key: "seen/".into(), range_end: "seen0".into(), start_revision, ..Default::default() };
    let requests = tokio_stream::once(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    let mut client = WatchClient::connect(url.to_owned()).await?;
    let Ok(opened) = client.watch(requests.chain(tokio_stream::pending())).await else { return Ok(false) };
    let mut events = opened.into_inner();
    while let Ok(Some(answer)) = events.message().await {
        if answer.canceled {
            bail!("the watch was canceled: {}", answer.cancel_reason);
        }
        for event in answer.events {
            let kv = event.kv.context("an event has a key")?;
            seen.push(kv.mod_revision);
            if kv.key == LAST.as_bytes() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A watch through a member that is `off` until it lacks so much that it is sent the whole state.
async fn a_watch_sees_everything(cluster: &Cluster, mut off: impl FnMut(usize, bool) -> Result<()>) -> Result<()> {
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
    let watching = tokio::spawn(follow(cluster.members[away].client_url()));
    let mut written = Vec::new();
    for n in 0..20 {
        written.push(cluster.put(leader, &format!("seen/{n}"), "x").await?);
    }
    off(away, true)?;
    for n in 20..40 {
        written.push(cluster.put(leader, &format!("seen/{n}"), "x").await?);
        fill(&cluster.members[leader], 0..20, VALUE).await?;
    }
    write_past(&cluster.members[leader], LIMIT).await?;
    written.push(cluster.put(leader, LAST, "x").await?);
    off(away, false)?;
    let seen = tokio::time::timeout(SECOND_LIMIT, watching).await.context("the watch does not come to its end")???;
    ensure!(seen == written, "the watch saw {seen:?} of {written:?}");
    ensure!(arrivals(&cluster.members[away]) == 1, "it caught up from the log");
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn a_watch_misses_and_repeats_nothing_when_its_member_gets_the_whole_state() -> Result<()> {
    let cluster = three(&["--snapshot-count=100"]).await?;
    a_watch_sees_everything(&cluster, |away, is_off| cluster.members[away].pause(is_off)).await
}

/// 15271: the member goes on serving while it is cut off, and its watch may not go back when it is sent the state.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_when_its_member_was_cut_off_and_gets_the_whole_state() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut network = Network::new(3)?;
    let mut cluster = Cluster::seated(Program::under_test()?, &network, &["--snapshot-count=100"])?;
    cluster.begin().await?;
    let cut_off = |away: usize, is_off: bool| {
        if !is_off {
            return network.heal();
        }
        for other in (0..3).filter(|other| *other != away) {
            network.cut(away, other)?;
            network.cut(other, away)?;
        }
        Ok(())
    };
    a_watch_sees_everything(&cluster, cut_off).await
}

/// Compacts through one member to what was there a few revisions ago, again and again until it is told to end. Answers
/// how often.
async fn compact(url: String, end: Arc<AtomicBool>) -> Result<usize> {
    let mut kv = KvClient::connect(url).await?;
    let (mut compacted, mut times) = (0, 0);
    while !end.load(Ordering::Relaxed) {
        let range = RangeRequest { key: "newest".into(), ..Default::default() };
        let newest = kv.range(limited(range)).await?.into_inner().header.context("a header")?.revision;
        if newest - KEPT > compacted {
            compacted = newest - KEPT;
            kv.compact(limited(CompactionRequest { revision: compacted, physical: false })).await?;
            times += 1;
        }
        tokio::time::sleep(BREATH).await;
    }
    Ok(times)
}

/// What a watch of everything from a revision on tells: each key with its revision up to `newest`, or the compaction that
/// the watch was canceled for.
async fn told_from(server: &Server, start_revision: i64, newest: i64) -> Result<(Vec<(i64, Bytes)>, i64)> {
    let create = WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), start_revision, ..Default::default() };
    let requests = tokio_stream::once(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    let mut client = WatchClient::connect(server.client_url()).await?.max_decoding_message_size(1 << 30);
    let mut answers = client.watch(requests.chain(tokio_stream::pending())).await?.into_inner();
    let mut told: Vec<(i64, Bytes)> = Vec::new();
    while told.last().is_none_or(|(at, _)| *at < newest) {
        let answer = tokio::time::timeout(LIMIT, answers.message()).await.context("the watch has stalled")??;
        let answer = answer.context("the watch goes on")?;
        if answer.canceled {
            return Ok((told, answer.compact_revision));
        }
        told.extend(answer.events.into_iter().filter_map(|event| event.kv).map(|kv| (kv.mod_revision, kv.key)));
    }
    Ok((told, 0))
}

/// The removal of what is compacted is slow here: both states are made in the middle of it.
#[tokio::test]
async fn two_states_in_short_order_arrive_while_everybody_compacts_and_rewrites_their_files() -> Result<()> {
    let flags = ["--snapshot-count=100", "--compaction-batch-limit=1", "--compaction-sleep-interval=10ms"];
    let mut cluster = three(&flags).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
    let end = Arc::new(AtomicBool::new(false));
    let compacting = tokio::spawn(compact(cluster.members[leader].client_url(), end.clone()));
    let urls: Vec<String> = cluster.members.iter().map(Server::client_url).collect();
    let rewriting = tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        loop {
            interval.tick().await;
            for url in &urls {
                // One that is paused or gone answers nothing.
                if let Ok(Ok(mut member)) = tokio::time::timeout(CALM, MaintenanceClient::connect(url.clone())).await {
                    let _ = tokio::time::timeout(CALM, member.defragment(limited(DefragmentRequest {}))).await;
                }
            }
        }
    });
    for times in 1..=2 {
        cluster.members[away].pause(true)?;
        write_past(&cluster.members[leader], SECOND_LIMIT).await?;
        cluster.members[away].pause(false)?;
        arrives(&cluster.members[away], times).await.with_context(|| format!("time {times}"))?;
    }
    rewriting.abort();
    end.store(true, Ordering::Relaxed);
    let times = compacting.await??;
    ensure!(times > 2, "there were {times} compactions: that tries little");
    let last = cluster.put(leader, "last", "x").await?;
    wait::until("it has caught up", LIMIT, async || Ok(cluster.get(away, "last").await.is_ok_and(|v| v.is_some()))).await?;
    cluster.agree(&[0, 1, 2]).await?;
    let compacted = cluster.hashes(&[leader], 0).await?[0].compact_revision;
    ensure!(compacted > 1, "nothing is compacted");
    let story = told_from(&cluster.members[leader], compacted, last).await?;
    ensure!(story.0.len() > 1 && story.1 == 0, "the oldest that can be watched is refused: {story:?}");
    for member in &cluster.members {
        ensure!(told_from(member, compacted, last).await? == story, "{} tells another story", member.name());
        let older = told_from(member, compacted - 1, last).await?;
        ensure!(older == (Vec::new(), compacted), "{} tells of what is compacted: {older:?}", member.name());
    }
    // It can be started from what it got.
    cluster.members[away].stop().await?;
    cluster.members[away].restart().await?;
    cluster.agree(&[0, 1, 2]).await
}
