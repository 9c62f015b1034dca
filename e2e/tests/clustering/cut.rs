//! A leader that is cut off, in both directions or in one: both sides know whether they have a leader, and say so in every
//! way at the same time. The side without one answers what needs none. Needs root, for network namespaces.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{MemberListRequest, PutRequest, RangeRequest};
use keelson_e2e::chaos::network::Network;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::wait;

use super::leader::{NO_LEADER, end, signs, watch};
use super::{LIMIT, http, limited, metrics, said, sum, with_leader};
use crate::ALONE;

const ALL: [usize; 3] = [0, 1, 2];
/// Health, readiness, liveness, and the metric.
const WELL: (bool, bool, bool, Option<f64>) = (true, true, true, Some(1.0));
const ALONE_AND_ALIVE: (bool, bool, bool, Option<f64>) = (false, false, true, Some(0.0));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Both,
    /// It is heard by nobody.
    Mute,
    /// It hears nobody.
    Deaf,
}

fn cut(network: &mut Network, how: Cut, member: usize, others: [usize; 2]) -> Result<()> {
    for other in others {
        if how != Cut::Deaf {
            network.cut(member, other)?;
        }
        if how != Cut::Mute {
            network.cut(other, member)?;
        }
    }
    Ok(())
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: "x".into(), ..Default::default() }
}

/// Reads and lists that are of this member alone are answered, those that all must agree on are not.
async fn answers_for_itself(cluster: &Cluster, number: usize) -> Result<()> {
    let url = cluster.members[number].client_url();
    let mut kv = KvClient::connect(url.clone()).await?;
    let range = |serializable| RangeRequest { key: "before".into(), serializable, ..Default::default() };
    let found = kv.range(limited(range(true))).await.context("a serializable read")?.into_inner();
    ensure!(found.count == 1, "the data of before is gone");
    let mut members = ClusterClient::connect(url).await?;
    let list = |linearizable| limited(MemberListRequest { linearizable });
    let listed = members.member_list(list(false)).await.context("a list of its own")?.into_inner();
    ensure!(listed.members.len() == 3);
    // Each waits for a leader for as long as a call may take.
    let (read, listed) = tokio::join!(kv.range(limited(range(false))), members.member_list(list(true)));
    ensure!(read.is_err(), "a linearizable read was answered by a member that nobody hears");
    ensure!(listed.is_err(), "a linearizable list was told by a member that nobody hears");
    Ok(())
}

async fn both_sides_know(network: &mut Network, cluster: &Cluster, how: Cut) -> Result<()> {
    let old = cluster.leader(&ALL).await?;
    let others = [(old + 1) % 3, (old + 2) % 3];
    let old_id = cluster.id(old).await?;
    for member in &cluster.members {
        wait::until("all are well", LIMIT, async || Ok(signs(member).await? == WELL)).await?;
    }
    let there = watch(&cluster.members[old], true).await?;
    let mut here = watch(&cluster.members[others[0]], true).await?;

    cut(network, how, old, others)?;
    // Of what was on its way the old leader may hear for a moment that there is another one.
    ensure!(end(there).await? == NO_LEADER, "the watch on the side without a leader");
    let next = cluster.leader(&others).await?;
    let next_id = cluster.id(next).await?;
    wait::until("all three know", LIMIT, async || {
        let [a, b, c] = [others[0], others[1], old].map(|number| signs(&cluster.members[number]));
        let (a, b, c) = tokio::join!(a, b, c);
        Ok((a?, b?, c?) == (WELL, WELL, ALONE_AND_ALIVE))
    })
    .await?;
    let told = cluster.status(old).await?;
    ensure!(told.leader == 0 && told.errors.iter().any(|e| e.contains("no leader")), "the old leader says {told:?}");
    for other in others {
        let told = cluster.status(other).await?;
        ensure!(told.leader == next_id && next_id != old_id && told.errors.is_empty(), "member {other} says {told:?}");
    }
    ensure!(sum(&metrics(&cluster.members[old]).await?, "etcd_server_is_leader") == Some(0.0));
    let health = http(&cluster.members[old].client_url(), "/health").await?;
    ensure!(health.contains("503") && health.contains("RAFT NO LEADER"), "{health}");

    let mut kv = KvClient::connect(cluster.members[old].client_url()).await?;
    ensure!(said(kv.put(with_leader(put("watched"))).await) == NO_LEADER);
    let mut kv = KvClient::connect(cluster.members[others[0]].client_url()).await?;
    ensure!(said(kv.put(with_leader(put("watched"))).await) == "accepted");
    let seen = tokio::time::timeout(LIMIT, here.message()).await.context("an event on the side with a leader")??;
    ensure!(seen.context("an event")?.events.len() == 1);
    if how == Cut::Both {
        answers_for_itself(cluster, old).await?;
    }

    network.heal()?;
    for member in &cluster.members {
        wait::until("all are well again", LIMIT, async || Ok(signs(member).await? == WELL)).await?;
    }
    cluster.agree(&ALL).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_cut_know_whether_they_have_a_leader() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut network = Network::new(3)?;
    let mut cluster = Cluster::seated(Program::under_test()?, &network, &[])?;
    cluster.begin().await?;
    cluster.put(0, "before", "x").await?;
    for how in [Cut::Both, Cut::Mute, Cut::Deaf] {
        both_sides_know(&mut network, &cluster, how).await.with_context(|| format!("{how:?}"))?;
    }
    Ok(())
}
