//! What a learner may answer, beside etcd, and learners that become voters without being asked for.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseLeasesRequest, MemberListRequest, PutRequest,
    RangeRequest, SnapshotRequest, StatusRequest, TxnRequest, WatchRequest,
};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;

use super::{LIMIT, http, limited, metrics, said, sum};

/// Whether the learner has the data.
async fn has(server: &Server, key: &str) -> Result<bool> {
    let mut kv = KvClient::connect(server.client_url()).await?;
    let range = RangeRequest { key: key.to_owned().into(), serializable: true, ..Default::default() };
    Ok(kv.range(limited(range)).await.is_ok_and(|r| r.into_inner().count == 1))
}

/// What a learner answers to each call.
async fn answers(program: Program) -> Result<Vec<(&'static str, String)>> {
    let mut cluster = Cluster::start(program, 1, &[]).await?;
    cluster.put(0, "k", "v").await?;
    let (learner, _) = cluster.add(0, true).await?;
    cluster.members[learner].spawn()?;
    let server = &cluster.members[learner];
    wait::until("the learner has the data", LIMIT, async || Ok(has(server, "k").await.unwrap_or(false))).await?;

    let mut kv = KvClient::connect(server.client_url()).await?;
    let mut lease = LeaseClient::connect(server.client_url()).await?;
    let mut maintenance = MaintenanceClient::connect(server.client_url()).await?;
    let mut members = ClusterClient::connect(server.client_url()).await?;
    let mut watch = WatchClient::connect(server.client_url()).await?;
    let range = |serializable| limited(RangeRequest { key: "k".into(), serializable, ..Default::default() });
    let status = maintenance.status(limited(StatusRequest {})).await?.into_inner();
    let ready = http(&server.client_url(), "/readyz").await?;
    let not_ready = ready.lines().filter(|line| line.starts_with("[-]")).collect::<Vec<_>>().join("; ");
    Ok(vec![
        ("serializable range", said(kv.range(range(true)).await)),
        ("linearizable range", said(kv.range(range(false)).await)),
        ("put", said(kv.put(limited(PutRequest { key: "k".into(), ..Default::default() })).await)),
        ("delete", said(kv.delete_range(limited(DeleteRangeRequest { key: "k".into(), ..Default::default() })).await)),
        ("txn", said(kv.txn(limited(TxnRequest::default())).await)),
        ("lease grant", said(lease.lease_grant(limited(LeaseGrantRequest { ttl: 9, id: 0 })).await)),
        ("leases", said(lease.lease_leases(limited(LeaseLeasesRequest {})).await)),
        ("member list", said(members.member_list(limited(MemberListRequest { linearizable: false })).await)),
        ("alarms", said(maintenance.alarm(limited(AlarmRequest::default())).await)),
        ("hash", said(maintenance.hash_kv(limited(HashKvRequest { revision: 0 })).await)),
        ("status", format!("{} {}", status.is_learner, status.leader != 0)),
        ("watch", said(first_of(watch.watch(tokio_stream::pending::<WatchRequest>()).await).await)),
        ("snapshot", said(first_of(maintenance.snapshot(limited(SnapshotRequest {})).await).await)),
        ("readiness", not_ready),
    ])
}

/// A stream that is refused says so at once or where its first message would be.
async fn first_of<T>(opened: Result<tonic::Response<tonic::Streaming<T>>, tonic::Status>) -> Result<(), tonic::Status> {
    opened?.into_inner().message().await.map(|_| ())
}

#[tokio::test]
async fn a_learner_answers_what_etcds_learners_answer() -> Result<()> {
    let etcd = answers(Program::Etcd).await.context("etcd")?;
    let keelson = answers(Program::under_test()?).await.context("the server under test")?;
    for (theirs, ours) in etcd.iter().zip(&keelson) {
        ensure!(theirs == ours, "etcd: {theirs:?}, the server under test: {ours:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_learner_that_has_caught_up_becomes_a_voter_by_itself_where_a_flag_says_so() -> Result<()> {
    let mut cluster = Cluster::start(Program::Keelson, 1, &["--auto-promote-learners"]).await?;
    for n in 0..100 {
        cluster.put(0, &format!("k{n}"), "x").await?;
    }
    let (learner, id) = cluster.add(0, true).await?;
    cluster.members[learner].spawn()?;
    cluster.members[learner].ready().await?;
    let listed = cluster.list(0).await?.into_iter().find(|m| m.id == id).context("it is listed")?;
    ensure!(!listed.is_learner);
    ensure!(sum(&metrics(&cluster.members[0]).await?, "etcd_server_learner_promote_successes") == Some(1.0));
    // It has a vote: without it nothing is decided.
    wait::until("it has a vote", LIMIT, async || Ok(!cluster.status(learner).await?.is_learner)).await?;
    cluster.members[learner].kill();
    ensure!(cluster.put(0, "alone", "x").await.is_err());
    cluster.members[learner].restart().await?;
    cluster.agree(&[0, 1]).await
}
