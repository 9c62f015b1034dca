//! Three members: any of them serves, any one may fail, members come and go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, MemberPromoteRequest, MemberRemoveRequest,
    MoveLeaderRequest, WatchCreateRequest, WatchRequest,
};
use keelson_api::exit;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::wait;

const LIMIT: Duration = Duration::from_secs(30);

async fn three(flags: &[&str]) -> Result<Cluster> {
    Cluster::start(Program::under_test()?, 3, flags).await
}

#[tokio::test]
async fn what_is_written_through_one_member_is_read_watched_and_leased_through_all() -> Result<()> {
    let cluster = three(&[]).await?;
    for writer in 0..3 {
        let mut watch = WatchClient::connect(cluster.members[(writer + 1) % 3].client_url()).await?;
        let create = WatchCreateRequest { key: "shared".into(), ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let mut events = watch.watch(tokio_stream::once(request).chain_pending()).await?.into_inner();
        ensure!(events.message().await?.context("created")?.created);

        let value = format!("from {writer}");
        let revision = cluster.put(writer, "shared", &value).await?;
        for reader in 0..3 {
            ensure!(cluster.get(reader, "shared").await?.as_deref() == Some(&value), "member {reader} reads something else");
        }
        let seen = events.message().await?.context("the put")?;
        ensure!(seen.events.len() == 1 && seen.events[0].kv.as_ref().is_some_and(|kv| kv.mod_revision == revision));

        let mut lease = LeaseClient::connect(cluster.members[writer].client_url()).await?;
        let granted = lease.lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await?.into_inner();
        for keeper in 0..3 {
            let mut lease = LeaseClient::connect(cluster.members[keeper].client_url()).await?;
            let keep = tokio_stream::once(LeaseKeepAliveRequest { id: granted.id });
            let kept = lease.lease_keep_alive(keep).await?.into_inner().message().await?.context("kept")?;
            ensure!(kept.ttl == 60, "member {keeper} says {}", kept.ttl);
            let ask = LeaseTimeToLiveRequest { id: granted.id, keys: false };
            let left = lease.lease_time_to_live(ask).await?.into_inner();
            ensure!(left.ttl > 50 && left.granted_ttl == 60, "member {keeper} says {left:?}");
        }
    }
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn leadership_moves_on_request() -> Result<()> {
    let cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let target = (leader + 1) % 3;
    let target_id = cluster.id(target).await?;
    let mut other = MaintenanceClient::connect(cluster.members[target].client_url()).await?;
    let refused = other.move_leader(MoveLeaderRequest { target_id }).await.unwrap_err();
    ensure!(refused.message() == "etcdserver: not leader", "{refused}");
    let mut maintenance = MaintenanceClient::connect(cluster.members[leader].client_url()).await?;
    let refused = maintenance.move_leader(MoveLeaderRequest { target_id: 7 }).await.unwrap_err();
    ensure!(refused.message() == "etcdserver: bad leader transferee", "{refused}");
    maintenance.move_leader(MoveLeaderRequest { target_id }).await?;
    ensure!(cluster.leader(&[0, 1, 2]).await? == target);
    cluster.put(leader, "moved", "x").await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn members_are_added_promoted_and_removed_under_etcds_checks() -> Result<()> {
    let mut cluster = Cluster::start(Program::under_test()?, 1, &[]).await?;
    cluster.put(0, "old", "data").await?;

    let (learner, learner_id) = cluster.add(0, true).await?;
    let refused = cluster.add(0, true).await.unwrap_err();
    ensure!(format!("{refused:#}").contains("too many learner members"), "{refused:#}");
    let mut members = ClusterClient::connect(cluster.members[0].client_url()).await?;
    let refused = members.member_promote(MemberPromoteRequest { id: learner_id }).await.unwrap_err();
    ensure!(refused.message().contains("in sync with leader"), "{refused}");
    cluster.members[learner].spawn()?;
    wait::until("the learner is promoted", LIMIT, async || {
        Ok(members.member_promote(MemberPromoteRequest { id: learner_id }).await.is_ok())
    })
    .await?;
    cluster.members[learner].ready().await?;
    ensure!(cluster.get(learner, "old").await?.as_deref() == Some("data"));

    let (third, third_id) = cluster.add(learner, false).await?;
    cluster.members[third].spawn()?;
    cluster.members[third].ready().await?;
    let list = cluster.list(third).await?;
    ensure!(list.len() == 3 && list.iter().all(|m| !m.is_learner && !m.name.is_empty()), "{list:?}");
    cluster.agree(&[0, 1, 2]).await?;

    let refused = members.member_remove(MemberRemoveRequest { id: 7 }).await.unwrap_err();
    ensure!(refused.message() == "etcdserver: member not found", "{refused}");
    cluster.remove(0, third_id).await?;
    ensure!(cluster.list(0).await?.len() == 2);
    wait::until("the removed member ends", LIMIT, async || Ok(cluster.members[third].exit_status()?.is_some())).await?;
    let status = cluster.members[third].exit_status()?.context("it has ended")?;
    ensure!(
        status.code() == Some(i32::from(exit::REMOVED)) && cluster.members[third].log().contains("removed from the cluster"),
        "{status}"
    );
    cluster.put(learner, "two", "left").await?;
    cluster.agree(&[0, 1]).await
}

#[tokio::test]
async fn a_member_that_was_away_too_long_gets_the_whole_state() -> Result<()> {
    let mut cluster = three(&["--snapshot-count", "100"]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
    cluster.members[away].stop().await?;
    let value = "v".repeat(20_000);
    for round in 0..4000 {
        cluster.put(leader, &format!("k{}", round % 500), &value).await?;
    }
    cluster.members[away].restart().await?;
    ensure!(cluster.get(away, "k499").await?.is_some());
    cluster.agree(&[0, 1, 2]).await?;
    ensure!(cluster.members[away].log().contains("taking the state that has arrived"), "it caught up from the log");
    cluster.put(away, "back", "x").await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn a_member_whose_data_is_gone_is_refused_until_it_is_removed_and_added() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let lost = (leader + 1) % 3;
    let id = cluster.id(lost).await?;
    cluster.members[lost].kill();
    std::fs::remove_dir_all(cluster.members[lost].data_dir())?;
    cluster.members[lost].spawn()?;
    wait::until("the empty member gives up", LIMIT, async || Ok(cluster.members[lost].exit_status()?.is_some())).await?;
    let status = cluster.members[lost].exit_status()?.context("it has ended")?;
    ensure!(
        status.code() == Some(i32::from(exit::DATA_GONE)) && cluster.members[lost].log().contains("is gone"),
        "{}",
        cluster.members[lost].log_tail()
    );

    cluster.remove(leader, id).await?;
    cluster.members.remove(lost);
    let leader = cluster.leader(&[0, 1]).await?;
    let (new, new_id) = cluster.add(leader, false).await?;
    ensure!(new_id != id);
    cluster.members[new].spawn()?;
    cluster.members[new].ready().await?;
    cluster.agree(&[0, 1, 2]).await
}

/// Keeps the request side of a stream open after what was said.
trait ChainPending: Sized {
    fn chain_pending(self) -> impl tokio_stream::Stream<Item = WatchRequest> + Send + 'static;
}

impl<S: tokio_stream::Stream<Item = WatchRequest> + Send + 'static> ChainPending for S {
    fn chain_pending(self) -> impl tokio_stream::Stream<Item = WatchRequest> + Send + 'static {
        tokio_stream::StreamExt::chain(self, tokio_stream::pending())
    }
}
