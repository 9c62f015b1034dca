//! Users on three members: all know the same ones, whichever was told; tokens are good everywhere; and what they know outlives
//! restarts, crashes and the arrival of a whole state.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use keelson_api::etcdserverpb::{
    AuthDisableRequest, AuthRoleDeleteRequest, AuthStatusRequest, HashKvRequest, MemberListRequest, PutRequest,
};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;

use super::common::{Caller, FLAGS, LIMIT, ask_for_users, said};
use crate::clustering::{metrics, sum};

const DENIED: &str = "PermissionDenied: etcdserver: permission denied";

async fn three(flags: &[&str]) -> Result<Cluster> {
    Cluster::start(Program::under_test()?, 3, &[FLAGS, flags].concat()).await
}

async fn status(server: &Server) -> Result<(bool, u64)> {
    let nobody = Caller::nobody(server).await?;
    let status = nobody.auth().auth_status(nobody.ask(AuthStatusRequest {})).await?.into_inner();
    Ok((status.enabled, status.auth_revision))
}

/// That all members have the same data and the same users.
async fn agree(cluster: &Cluster) -> Result<()> {
    wait::until("the members agree", LIMIT, async || {
        let mut seen = Vec::new();
        for member in &cluster.members {
            let root = Caller::named(member, "root").await?;
            root.get("a").await?;
            let hash = root.maintenance().hash_kv(root.ask(HashKvRequest { revision: 0 })).await?.into_inner();
            seen.push((status(member).await?, hash.hash, hash.hash_revision));
        }
        ensure!(seen.iter().all(|s| s.0 == seen[0].0), "they have different users: {seen:?}");
        Ok(seen.windows(2).all(|s| s[0] == s[1]))
    })
    .await
}

#[tokio::test]
async fn a_token_is_good_at_once_on_every_member_and_what_is_taken_is_gone_at_once() -> Result<()> {
    let cluster = three(&[]).await?;
    let root = ask_for_users(&cluster.members[0]).await?;
    for round in 0..10 {
        for giver in 0..3 {
            let ann = Caller::named(&cluster.members[giver], "ann").await?;
            for taker in &cluster.members {
                let there = Caller::nobody(taker).await?.with(ann.token().unwrap_or_default());
                let told = (said(there.put("a").await), said(there.get("r").await), said(there.put("r").await));
                ensure!(told == ("accepted".into(), "accepted".into(), DENIED.into()), "round {round}: {told:?}");
            }
        }
    }
    let there = Caller::named(&cluster.members[1], "ann").await?;
    for round in 0..10 {
        let role = AuthRoleDeleteRequest { role: "some".into() };
        root.auth().role_delete(root.ask(role)).await?;
        let told = (said(there.get("a").await), said(there.put("a").await));
        ensure!(told.0 == DENIED, "round {round}: {told:?}");
        // A write may have been let in before the change came there, and meets it in the log.
        ensure!(told.1 == DENIED || told.1.contains("revision of auth store is old"), "round {round}: {told:?}");
        root.add_role("some").await?;
        root.permit("some", keelson_api::authpb::permission::Type::Readwrite, "a", "c").await?;
        root.grant("ann", "some").await?;
        ensure!(said(there.get("a").await) == "accepted", "round {round}");
    }
    agree(&cluster).await
}

/// Anybody can make up a token that names an entry which is far ahead: nobody waits for that.
#[tokio::test]
async fn a_token_that_nobody_can_have_been_given_yet_is_refused_at_once() -> Result<()> {
    let cluster = three(&[]).await?;
    ask_for_users(&cluster.members[0]).await?;
    for member in &cluster.members {
        ensure!(status(member).await?.0, "it does not ask for users yet");
        let stranger = Caller::nobody(member).await?.with("abcdefghijklmnop.9999999999");
        // A request may take seven seconds.
        let told = tokio::time::timeout(Duration::from_secs(3), stranger.put("a")).await.context("it was waited for")?;
        ensure!(said(told) == "Unauthenticated: etcdserver: invalid auth token");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_told_to_nobody_ends_on_all_members_at_once() -> Result<()> {
    let cluster = three(&[]).await?;
    let nobody = Caller::nobody(&cluster.members[0]).await?;
    ask_for_users(&cluster.members[0]).await?;
    for round in 0..10 {
        let root = Caller::named(&cluster.members[0], "root").await?;
        root.auth().auth_disable(root.ask(AuthDisableRequest {})).await?;
        nobody.enable().await?;
        for member in &cluster.members {
            let nobody = Caller::nobody(member).await?;
            let request = nobody.ask(MemberListRequest { linearizable: true });
            let told = said(nobody.cluster().member_list(request).await);
            ensure!(told == "InvalidArgument: etcdserver: user name is empty", "round {round}: {told}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn users_outlive_crashes_and_restarts_of_everybody() -> Result<()> {
    let mut cluster = three(&[]).await?;
    ask_for_users(&cluster.members[0]).await?;
    let before = status(&cluster.members[0]).await?;
    cluster.members.iter_mut().for_each(Server::kill);
    for member in &mut cluster.members {
        member.spawn()?;
    }
    for member in &mut cluster.members {
        member.ready().await?;
    }
    for member in &cluster.members {
        ensure!(status(member).await? == before && before.0, "{before:?}");
        ensure!(said(Caller::nobody(member).await?.put("a").await).contains("user name is empty"));
        let ann = Caller::named(member, "ann").await?;
        ensure!(said(ann.put("a").await) == "accepted" && said(ann.put("z").await) == DENIED);
    }
    agree(&cluster).await
}

/// etcd 14571: a member that came by its users with a whole state decided otherwise than those that followed the log.
#[tokio::test]
async fn a_member_that_gets_the_whole_state_decides_as_the_others_do() -> Result<()> {
    let mut cluster = three(&["--snapshot-count=100"]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let away = (leader + 1) % 3;
    cluster.members[away].kill();
    let root = ask_for_users(&cluster.members[leader]).await?;
    wait::until("the leader has let go of what the other lacks, and can only send it everything", LIMIT * 3, async || {
        let puts = (0..100).map(|n| {
            let put = PutRequest { key: format!("fill/{n}").into(), value: vec![b'v'; 20_000].into(), ..Default::default() };
            let (mut kv, request) = (root.kv(), root.ask(put));
            async move { kv.put(request).await }
        });
        let mut puts = futures::stream::iter(puts).buffer_unordered(32);
        while let Some(put) = puts.next().await {
            put?;
        }
        let now = metrics(&cluster.members[leader]).await?;
        Ok(["inflights_total", "failures", "success"]
            .iter()
            .any(|name| sum(&now, &format!("etcd_network_snapshot_send_{name}")).unwrap_or(0.0) > 0.0))
    })
    .await?;
    cluster.members[away].spawn()?;
    cluster.members[away].ready().await?;
    // Both kinds of writes, through the one that has come back: allowed ones and refused ones.
    let ann = Caller::named(&cluster.members[away], "ann").await.context("signing in there")?;
    for _ in 0..20 {
        ensure!(said(ann.put("a").await) == "accepted" && said(ann.put("z").await) == DENIED);
    }
    let sent = sum(&metrics(&cluster.members[leader]).await?, "etcd_network_snapshot_send_success");
    ensure!(sent.is_some_and(|sent| sent > 0.0), "it caught up from the log");
    agree(&cluster).await
}
