//! Whether there is a leader: what calls, streams, health checks and metrics say.

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, StatusRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use tokio_stream::StreamExt;
use tonic::Streaming;

use super::{LIMIT, http, limited, metrics, said, sum, three, with_leader};

pub(super) const NO_LEADER: &str = "Unavailable: etcdserver: no leader";

pub(super) async fn watch(server: &Server, wants_leader: bool) -> Result<Streaming<WatchResponse>> {
    let mut client = WatchClient::connect(server.client_url()).await?;
    let create = WatchCreateRequest { key: "watched".into(), ..Default::default() };
    let requests = tokio_stream::once(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    let requests = requests.chain(tokio_stream::pending());
    let opened = if wants_leader { client.watch(with_leader(requests)).await } else { client.watch(requests).await };
    let mut events = opened?.into_inner();
    ensure!(events.message().await?.context("an answer")?.created);
    Ok(events)
}

/// How a stream ends.
pub(super) async fn end<T>(mut stream: Streaming<T>) -> Result<String> {
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return "ended well".to_owned(),
                Err(status) => return said::<()>(Err(status)),
            }
        }
    };
    tokio::time::timeout(LIMIT, end).await.context("the stream does not end")
}

async fn without_a_leader(program: Program) -> Result<()> {
    let mut cluster = Cluster::start(program, 3, &[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let left = (leader + 1) % 3;
    let server = &cluster.members[left];
    let (strict, patient) = (watch(server, true).await?, watch(server, false).await?);
    let mut lease = LeaseClient::connect(server.client_url()).await?;
    let granted = lease.lease_grant(limited(LeaseGrantRequest { ttl: 60, id: 0 })).await?.into_inner();
    let keep = tokio_stream::once(LeaseKeepAliveRequest { id: granted.id }).chain(tokio_stream::pending());
    let mut kept = lease.lease_keep_alive(with_leader(keep)).await?.into_inner();
    ensure!(kept.message().await?.context("kept")?.ttl == 60);

    for number in (0..3).filter(|n| *n != left) {
        cluster.members[number].kill();
    }
    ensure!(end(strict).await? == NO_LEADER, "the watch that wants a leader");
    ensure!(end(kept).await? == NO_LEADER, "the keepalive that wants a leader");
    let server = &cluster.members[left];
    let mut kv = KvClient::connect(server.client_url()).await?;
    ensure!(said(kv.put(with_leader(PutRequest { key: "k".into(), ..Default::default() })).await) == NO_LEADER);
    let Err(refused) = watch(server, true).await else { bail!("a new watch that wants a leader was taken") };
    ensure!(format!("{refused:?}").contains("no leader"), "{refused:?}");
    let mut maintenance = MaintenanceClient::connect(server.client_url()).await?;
    let status = maintenance.status(limited(StatusRequest {})).await?.into_inner();
    ensure!(status.leader == 0 && status.errors.iter().any(|e| e.contains("no leader")), "{status:?}");

    // Whoever does not ask for a leader waits, and misses nothing.
    for number in (0..3).filter(|n| *n != left) {
        cluster.members[number].spawn()?;
    }
    wait::until("writes go on", LIMIT, async || Ok(cluster.put(left, "watched", "x").await.is_ok())).await?;
    let mut patient = patient;
    let seen = tokio::time::timeout(LIMIT, patient.message()).await.context("an event")??.context("an event")?;
    ensure!(seen.events.len() == 1);
    Ok(())
}

#[tokio::test]
async fn calls_and_streams_that_want_a_leader_end_without_one_and_others_wait_in_etcd() -> Result<()> {
    without_a_leader(Program::Etcd).await
}

#[tokio::test]
async fn calls_and_streams_that_want_a_leader_end_without_one_and_others_wait() -> Result<()> {
    without_a_leader(Program::under_test()?).await
}

/// What a member says of the leader over HTTP: health, readiness, liveness, metric.
pub(super) async fn signs(server: &Server) -> Result<(bool, bool, bool, Option<f64>)> {
    let url = server.client_url();
    let health = http(&url, "/health").await?;
    let ready = http(&url, "/readyz").await?.contains("200 OK");
    let live = http(&url, "/livez").await?.contains("200 OK");
    Ok((health.contains("200 OK"), ready, live, sum(&metrics(server).await?, "etcd_server_has_leader")))
}

#[tokio::test]
async fn metrics_tell_of_the_leader_and_of_the_other_members() -> Result<()> {
    let cluster = three(&[]).await?;
    for n in 0..30 {
        cluster.put(n % 3, "k", &"v".repeat(1000)).await?;
    }
    let leader = cluster.leader(&[0, 1, 2]).await?;
    for (number, member) in cluster.members.iter().enumerate() {
        wait::until("both others were asked for a sign of life", LIMIT, async || {
            let now = metrics(member).await?;
            Ok(sum(&now, "etcd_network_active_peers") == Some(2.0)
                && sum(&now, "etcd_network_peer_round_trip_time_seconds_count").is_some_and(|n| n >= 2.0))
        })
        .await?;
        let now = metrics(member).await?;
        let value = |name: &str| sum(&now, name).with_context(|| format!("{name} is missing"));
        ensure!(value("etcd_server_is_leader")? == f64::from(u8::from(number == leader)));
        ensure!(value("etcd_server_leader_changes_seen_total")? >= 1.0);
        ensure!(value("etcd_network_known_peers")? == 3.0);
        ensure!(value("etcd_server_proposals_committed_total")? > 0.0 && value("etcd_server_proposals_applied_total")? > 0.0);
        let sent = value("etcd_network_peer_sent_bytes_total")?;
        let received = value("etcd_network_peer_received_bytes_total")?;
        // Each value of a thousand bytes went to the leader, or from it to the two others.
        let (least_sent, least_received) = if number == leader { (50_000.0, 15_000.0) } else { (9_000.0, 25_000.0) };
        ensure!(sent > least_sent && received > least_received, "member {number} sent {sent} and received {received} bytes");
        for name in ["etcd_server_heartbeat_send_failures_total", "etcd_server_slow_read_indexes_total", "etcd_server_is_learner"]
        {
            value(name)?;
        }
        let answer = http(&member.client_url(), "/debug/vars").await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        let vars: serde_json::Value = serde_json::from_str(body)?;
        let known = vars["raft.status"]["progress"].as_object().context("no progress")?.len();
        ensure!(known == if number == leader { 3 } else { 0 }, "member {number}: {vars}");
    }

    // A new leader is seen by all.
    let before = sum(&metrics(&cluster.members[(leader + 1) % 3]).await?, "etcd_server_leader_changes_seen_total");
    let to = (leader + 2) % 3;
    let target_id = cluster.id(to).await?;
    let mut maintenance = MaintenanceClient::connect(cluster.members[leader].client_url()).await?;
    maintenance.move_leader(limited(keelson_api::etcdserverpb::MoveLeaderRequest { target_id })).await?;
    wait::until("the change is counted", LIMIT, async || {
        let now = sum(&metrics(&cluster.members[(leader + 1) % 3]).await?, "etcd_server_leader_changes_seen_total");
        Ok(now > before)
    })
    .await
}
