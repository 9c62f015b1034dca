//! Members that lag so far behind that they are sent the whole state: once, twice in short order, with watches open,
//! while files are rewritten, and without holding up the leader.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{DefragmentRequest, WatchCreateRequest, WatchRequest};
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use tokio_stream::StreamExt;

use super::{LIMIT, fill, limited, metrics, sum, three};

/// Entries are kept for a while for a member that was just sent a state, so a second one takes longer.
const SECOND_LIMIT: Duration = Duration::from_secs(120);
const VALUE: usize = 20_000;
/// Between two lots of writes.
const BREATH: Duration = Duration::from_millis(200);
/// Written last of all.
const LAST: &str = "seen/last";
/// How long somebody may take who is asked for nothing that matters.
const CALM: Duration = Duration::from_millis(500);
const ARRIVED: &str = "taking the state that has arrived";

fn arrivals(server: &Server) -> usize {
    server.log().matches(ARRIVED).count()
}

/// How often a leader has begun to send its whole state.
async fn offers(leader: &Server) -> Result<f64> {
    let now = metrics(leader).await?;
    let of = |name: &str| sum(&now, &format!("etcd_network_snapshot_send_{name}")).unwrap_or(0.0);
    Ok(of("inflights_total") + of("failures") + of("success"))
}

/// Writes until the leader has let go of what a member lacks, and offers it the whole state.
async fn write_past(leader: &Server, limit: Duration) -> Result<()> {
    let before = offers(leader).await?;
    wait::until("the leader offers its whole state", limit, async || {
        fill(leader, 0..100, VALUE).await?;
        // Not more than it takes: all of it stays on three disks.
        tokio::time::sleep(BREATH).await;
        Ok(offers(leader).await? > before)
    })
    .await
}

async fn arrives(server: &Server, times: usize) -> Result<()> {
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

#[tokio::test]
async fn a_watch_misses_and_repeats_nothing_when_its_member_gets_the_whole_state() -> Result<()> {
    let cluster = three(&["--snapshot-count=100"]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
    let watching = tokio::spawn(follow(cluster.members[away].client_url()));
    let mut written = Vec::new();
    for n in 0..20 {
        written.push(cluster.put(leader, &format!("seen/{n}"), "x").await?);
    }
    cluster.members[away].pause(true)?;
    for n in 20..40 {
        written.push(cluster.put(leader, &format!("seen/{n}"), "x").await?);
        fill(&cluster.members[leader], 0..20, VALUE).await?;
    }
    write_past(&cluster.members[leader], LIMIT).await?;
    written.push(cluster.put(leader, LAST, "x").await?);
    cluster.members[away].pause(false)?;
    let seen = tokio::time::timeout(SECOND_LIMIT, watching).await.context("the watch does not come to its end")???;
    ensure!(seen == written, "the watch saw {seen:?} of {written:?}");
    ensure!(arrivals(&cluster.members[away]) == 1, "it caught up from the log");
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn two_states_in_short_order_arrive_while_everybody_rewrites_their_files() -> Result<()> {
    let mut cluster = three(&["--snapshot-count=100"]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
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
    cluster.put(leader, "last", "x").await?;
    wait::until("it has caught up", LIMIT, async || Ok(cluster.get(away, "last").await.is_ok_and(|v| v.is_some()))).await?;
    cluster.agree(&[0, 1, 2]).await?;
    // It can be started from what it got.
    cluster.members[away].stop().await?;
    cluster.members[away].restart().await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn the_leader_keeps_its_pace_while_a_member_catches_up() -> Result<()> {
    let mut cluster = three(&["--snapshot-count=100"]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
    cluster.members[away].kill();
    write_past(&cluster.members[leader], LIMIT).await?;
    cluster.members[away].spawn()?;
    let begun = Instant::now();
    let caught_up = Cell::new(false);
    let catching_up = async {
        let serves = wait::until("it has caught up", LIMIT, async || Ok(cluster.get(away, "pace").await.is_ok())).await;
        caught_up.set(true);
        serves
    };
    let writing = async {
        let (mut slowest, mut puts) = (Duration::ZERO, 0);
        while !caught_up.get() {
            let asked = Instant::now();
            cluster.put(leader, "pace", &puts.to_string()).await?;
            slowest = slowest.max(asked.elapsed());
            puts += 1;
        }
        anyhow::Ok((slowest, puts))
    };
    let (serves, written) = tokio::join!(catching_up, writing);
    serves.with_context(|| cluster.members[away].log_tail())?;
    let (slowest, puts) = written?;
    println!("caught up within {:?}, {puts} writes meanwhile, the slowest took {slowest:?}", begun.elapsed());
    ensure!(puts > 0 && slowest < Duration::from_secs(2), "{puts} writes, the slowest took {slowest:?}");
    ensure!(arrivals(&cluster.members[away]) == 1, "it caught up from the log");
    cluster.agree(&[0, 1, 2]).await
}
