//! Failures that stores of this kind have had with several members: reads and leases of a leader that was held up,
//! and progress that was told too early.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use keelson_e2e::cluster::Cluster;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{LIMIT, limited, three};

/// Pauses the leader; answers its number and that of another member, which goes on.
async fn hold_up_the_leader(cluster: &Cluster) -> Result<(usize, usize)> {
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let others: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    cluster.members[leader].pause(true)?;
    Ok((leader, cluster.leader(&others).await?))
}

#[tokio::test]
async fn a_leader_that_was_paused_answers_no_read_with_what_it_had_before() -> Result<()> {
    let cluster = three(&[]).await?;
    for round in 0..3 {
        cluster.put(0, "x", "old").await?;
        let mut readers = Vec::new();
        let leader = cluster.leader(&[0, 1, 2]).await?;
        for _ in 0..10 {
            let kv = KvClient::connect(cluster.members[leader].client_url()).await?;
            // A call first, so that the connection is there.
            kv.clone().range(limited(RangeRequest { key: "x".into(), ..Default::default() })).await?;
            readers.push(kv);
        }
        let (held, next) = hold_up_the_leader(&cluster).await?;
        ensure!(held == leader, "another member leads by now");
        let value = format!("new {round}");
        cluster.put(next, "x", &value).await?;
        let asked: Vec<_> = readers
            .into_iter()
            .map(|mut kv| {
                tokio::spawn(async move { kv.range(limited(RangeRequest { key: "x".into(), ..Default::default() })).await })
            })
            .collect();
        tokio::task::yield_now().await;
        cluster.members[held].pause(false)?;
        for answer in asked {
            // To refuse is right, too.
            if let Ok(found) = answer.await? {
                let found = found.into_inner().kvs.pop().context("the key is there")?.value;
                ensure!(found == value.as_bytes(), "round {round}: a stale read: {found:?}");
            }
        }
        cluster.agree(&[0, 1, 2]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_leader_that_was_paused_ends_no_lease_that_was_renewed_meanwhile() -> Result<()> {
    const TTL: i64 = 3;
    let cluster = three(&[]).await?;
    let mut lease = LeaseClient::connect(cluster.members[0].client_url()).await?;
    let id = lease.lease_grant(limited(LeaseGrantRequest { ttl: TTL, id: 0 })).await?.into_inner().id;
    let mut kv = KvClient::connect(cluster.members[0].client_url()).await?;
    kv.put(limited(PutRequest { key: "leased".into(), lease: id, ..Default::default() })).await?;

    let (held, next) = hold_up_the_leader(&cluster).await?;
    let mut lease = LeaseClient::connect(cluster.members[next].client_url()).await?;
    let (ask, asked) = mpsc::unbounded_channel();
    let mut kept = lease.lease_keep_alive(UnboundedReceiverStream::new(asked)).await?.into_inner();
    // Renewed for twice as long as it would live; in the middle the old leader comes back with its clock.
    let mut renewals = tokio::time::interval(Duration::from_millis(500));
    for renewal in 0..4 * TTL {
        renewals.tick().await;
        ask.send(LeaseKeepAliveRequest { id })?;
        ensure!(kept.message().await?.context("an answer")?.ttl == TTL, "it is gone after {renewal} renewals");
        if renewal == 2 * TTL + 1 {
            cluster.members[held].pause(false)?;
        }
    }
    ensure!(cluster.get(next, "leased").await?.is_some());
    cluster.agree(&[0, 1, 2]).await
}

/// What a watch has told, in order.
enum Told {
    Event(i64),
    Progress(i64),
}

#[tokio::test]
async fn no_member_tells_of_progress_before_the_events_that_belong_to_it() -> Result<()> {
    const PUTS: usize = 600;
    let cluster = three(&["--watch-progress-notify-interval=100ms"]).await?;
    let mut watchers = Vec::new();
    for member in &cluster.members {
        let (ask, asked) = mpsc::unbounded_channel();
        let create = WatchCreateRequest { key: "p".into(), progress_notify: true, ..Default::default() };
        ask.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
        let mut client = WatchClient::connect(member.client_url()).await?;
        let mut stream = client.watch(UnboundedReceiverStream::new(asked)).await?.into_inner();
        ensure!(stream.message().await?.context("an answer")?.created);
        watchers.push(tokio::spawn(async move {
            let mut told = Vec::new();
            while told.iter().filter(|t| matches!(t, Told::Event(_))).count() < PUTS {
                let answer = tokio::time::timeout(LIMIT, stream.message()).await.context("the watch has stalled")??;
                let answer = answer.context("the watch goes on")?;
                if answer.events.is_empty() {
                    told.push(Told::Progress(answer.header.context("a header")?.revision));
                } else {
                    told.extend(answer.events.iter().filter_map(|e| Some(Told::Event(e.kv.as_ref()?.mod_revision))));
                    ask.send(WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) })?;
                }
            }
            anyhow::Ok(told)
        }));
    }
    let mut put = Vec::new();
    for n in 0..PUTS {
        put.push(cluster.put(n % 3, "p", "x").await?);
    }
    for (number, watcher) in watchers.into_iter().enumerate() {
        let told = watcher.await??;
        let (mut seen, mut progress) = (0, 0);
        for told in &told {
            match told {
                Told::Event(revision) => {
                    ensure!(put[seen] == *revision, "member {number} tells of {revision} in place of {}", put[seen]);
                    seen += 1;
                }
                Told::Progress(revision) => {
                    let due = put.iter().filter(|p| *p <= revision).count();
                    ensure!(seen >= due, "member {number} is at {revision} after {seen} of {due} events");
                    progress += 1;
                }
            }
        }
        ensure!(progress > 10, "member {number} told of progress {progress} times");
    }
    Ok(())
}
