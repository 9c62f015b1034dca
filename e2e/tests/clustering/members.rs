//! Changes of the member list: what is refused and how, beside etcd; and what becomes of members that were removed or
//! have lost their data.

use std::fs;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest,
    PutRequest, RangeRequest,
};
use keelson_api::exit;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use tonic::transport::Channel;

use super::{LIMIT, exit_code, http, limited, said, three};

/// No member has it.
const NOBODY: u64 = 7;

async fn client(cluster: &Cluster, number: usize) -> Result<ClusterClient<Channel>> {
    Ok(ClusterClient::connect(cluster.members[number].client_url()).await?)
}

fn add(urls: &[&str], is_learner: bool) -> tonic::Request<MemberAddRequest> {
    limited(MemberAddRequest { peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(), is_learner })
}

/// Every change that is refused, in words that name the case, with what the server under test says.
async fn refusals(program: Program) -> Result<Vec<(&'static str, String)>> {
    let mut cluster = Cluster::start(program, 3, &[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let taken = cluster.members[other].peer_url();
    let other_id = cluster.id(other).await?;
    let mut said_of = Vec::new();
    // Through a follower: whoever is asked, the answer is the leader's.
    let mut members = client(&cluster, other).await?;
    let mut note = |case: &'static str, what: String| said_of.push((case, what));

    note("add without URLs", said(members.member_add(add(&[], false)).await));
    note("add a URL without host", said(members.member_add(add(&["http://"], false)).await));
    note("add what is no URL", said(members.member_add(add(&["localhost"], false)).await));
    note("promote nobody", said(members.member_promote(limited(MemberPromoteRequest { id: NOBODY })).await));
    note("promote a voter", said(members.member_promote(limited(MemberPromoteRequest { id: other_id })).await));
    note("remove nobody", said(members.member_remove(limited(MemberRemoveRequest { id: NOBODY })).await));
    let update = MemberUpdateRequest { id: NOBODY, peer_ur_ls: vec!["http://127.0.0.1:1".into()] };
    note("update nobody", said(members.member_update(limited(update)).await));
    let update = MemberUpdateRequest { id: cluster.id(third).await?, peer_ur_ls: vec![taken.clone()] };
    note("update to another's URL", said(members.member_update(limited(update)).await));

    // Both want the members connected for a while before they may be added to.
    let (learner, learner_id) = cluster.add(leader, true).await?;
    note("add another's URL", said(members.member_add(add(&[taken.as_str()], false)).await));
    note("add a second learner", said(members.member_add(add(&["http://127.0.0.1:1"], true)).await));
    note(
        "promote a learner that has not come",
        said(members.member_promote(limited(MemberPromoteRequest { id: learner_id })).await),
    );
    let mut maintenance = MaintenanceClient::connect(cluster.members[leader].client_url()).await?;
    let to = |target_id| limited(MoveLeaderRequest { target_id });
    note("lead to a learner", said(maintenance.move_leader(to(learner_id)).await));
    note("lead to nobody", said(maintenance.move_leader(to(NOBODY)).await));
    let mut follower = MaintenanceClient::connect(cluster.members[other].client_url()).await?;
    note("a follower cannot move the lead", said(follower.move_leader(to(other_id)).await));
    note(
        "a learner that never came is removed",
        said(members.member_remove(limited(MemberRemoveRequest { id: learner_id })).await),
    );
    note("it cannot be removed twice", said(members.member_remove(limited(MemberRemoveRequest { id: learner_id })).await));
    cluster.members.remove(learner);

    // One of three is down.
    cluster.members[third].kill();
    wait::until("the leader has noticed", LIMIT, async || {
        // Whatever it has noticed, this one is never accepted.
        let answer = said(members.member_add(add(&[taken.as_str()], false)).await);
        Ok(answer == "Unavailable: etcdserver: unhealthy cluster")
    })
    .await?;
    note("a live one of two cannot go", said(members.member_remove(limited(MemberRemoveRequest { id: other_id })).await));
    Ok(said_of)
}

#[tokio::test]
async fn changes_of_members_are_refused_as_etcd_refuses_them() -> Result<()> {
    let etcd = refusals(Program::Etcd).await.context("etcd")?;
    let keelson = refusals(Program::under_test()?).await.context("the server under test")?;
    for (theirs, ours) in etcd.iter().zip(&keelson) {
        ensure!(theirs == ours, "etcd: {theirs:?}, the server under test: {ours:?}");
    }
    ensure!(etcd.len() == keelson.len());
    Ok(())
}

#[tokio::test]
async fn urls_of_a_member_can_be_changed_and_are_told_by_all() -> Result<()> {
    let cluster = three(&[]).await?;
    let id = cluster.id(1).await?;
    let urls = vec![cluster.members[1].peer_url(), "http://127.0.0.2:1".to_owned()];
    client(&cluster, 2).await?.member_update(limited(MemberUpdateRequest { id, peer_ur_ls: urls.clone() })).await?;
    for number in 0..3 {
        let list = cluster.list(number).await?;
        let told = list.iter().find(|m| m.id == id).context("the member is listed")?;
        ensure!(told.peer_ur_ls == urls, "{told:?}");
    }
    Ok(())
}

#[tokio::test]
async fn members_are_told_over_http_on_the_peer_port_only() -> Result<()> {
    for program in [Program::Etcd, Program::under_test()?] {
        let cluster = Cluster::start(program, 1, &[]).await?;
        let version = http(&cluster.members[0].peer_url(), "/version").await?;
        ensure!(version.contains("200 OK") && version.contains("\"etcdserver\":\"3.7.3\""), "{version}");
        let told = http(&cluster.members[0].peer_url(), "/members").await?;
        ensure!(
            told.contains("200 OK") && told.contains(&format!("\"peerURLs\":[\"{}\"]", cluster.members[0].peer_url())),
            "{told}"
        );
        let id = cluster.list(0).await?.first().context("a member")?.id;
        ensure!(told.to_lowercase().contains("x-etcd-cluster-id: ") && told.contains(&format!("\"id\":{id}")), "{told}");
        let told = http(&cluster.members[0].client_url(), "/members").await?;
        ensure!(told.contains("404"), "{told}");
    }
    // etcd tells its health on client ports only.
    let cluster = Cluster::start(Program::Keelson, 1, &[]).await?;
    let health = http(&cluster.members[0].peer_url(), "/health").await?;
    ensure!(health.contains("200 OK") && health.contains("\"health\":\"true\""), "{health}");
    Ok(())
}

/// Changes that a young cluster refuses, that a flag allows, or that another flag sets the limit of.
async fn under_flags(program: Program) -> Result<Vec<(&'static str, String)>> {
    let mut said_of = Vec::new();
    let url = |number: u16| format!("http://127.0.0.1:{number}");
    let mut cluster = Cluster::start(program, 1, &[]).await?;
    let only = cluster.id(0).await?;
    cluster.add(0, false).await?;
    let mut members = client(&cluster, 0).await?;
    said_of.push(("add one more while the last one has not come", said(members.member_add(add(&[&url(1)], false)).await)));
    said_of.push(("remove the only one that has", said(members.member_remove(limited(MemberRemoveRequest { id: only })).await)));

    let cluster = Cluster::start(program, 1, &["--max-learners=2"]).await?;
    let mut members = client(&cluster, 0).await?;
    for number in 1..=3 {
        said_of.push(("add a learner of two that may be", said(members.member_add(add(&[&url(number)], true)).await)));
    }

    let mut cluster = Cluster::start(program, 3, &["--strict-reconfig-check=false"]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    cluster.members[(leader + 1) % 3].kill();
    let mut members = client(&cluster, leader).await?;
    said_of.push(("add where nobody looks at who is there", said(members.member_add(add(&[&url(1)], false)).await)));
    Ok(said_of)
}

#[tokio::test]
async fn flags_decide_how_strictly_changes_are_looked_at_as_in_etcd() -> Result<()> {
    let etcd = under_flags(Program::Etcd).await.context("etcd")?;
    let keelson = under_flags(Program::under_test()?).await.context("the server under test")?;
    for (theirs, ours) in etcd.iter().zip(&keelson) {
        ensure!(theirs == ours, "etcd: {theirs:?}, the server under test: {ours:?}");
    }
    let words: Vec<&str> = etcd.iter().map(|(_, said)| said.as_str()).collect();
    ensure!(words[0].contains("not enough started members") && words[1].contains("not enough started members"), "{words:?}");
    ensure!(words[3] == "accepted" && words[4].contains("too many learner members") && words[5] == "accepted", "{words:?}");
    Ok(())
}

#[tokio::test]
async fn a_member_that_was_removed_while_it_was_down_is_told_so_when_it_comes_back() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let (by, removed) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = cluster.id(removed).await?;
    cluster.members[removed].stop().await?;
    cluster.remove(by, id).await?;
    for time in ["first", "second"] {
        cluster.members[removed].spawn()?;
        ensure!(
            exit_code(&mut cluster.members[removed]).await? == exit::REMOVED,
            "the {time} time: {}",
            cluster.members[removed].log_tail()
        );
        cluster.members[removed].kill();
    }
    ensure!(cluster.members[removed].log().contains("removed from the cluster"));
    // Nor does it disturb those that are left, or come back to their list.
    ensure!(cluster.leader(&[leader, by]).await? == leader);
    ensure!(cluster.list(by).await?.iter().all(|m| m.id != id));

    // Its addresses can be used again, under another id.
    let addresses = cluster.members[removed].peer_url();
    let added = wait_added(&cluster, leader, &addresses).await?;
    ensure!(added != id);
    fs::remove_dir_all(cluster.members[removed].data_dir())?;
    let named = cluster.named();
    cluster.members[removed].set_cluster(named, true);
    cluster.members[removed].spawn()?;
    cluster.members[removed].ready().await?;
    ensure!(cluster.id(removed).await? == added);
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn one_of_two_voters_is_removed_and_the_other_goes_on() -> Result<()> {
    let mut cluster = Cluster::start(Program::under_test()?, 2, &[]).await?;
    let leader = cluster.leader(&[0, 1]).await?;
    let removed = 1 - leader;
    let id = cluster.id(removed).await?;
    // The one that goes has to stay until its vote is no longer counted.
    cluster.remove(leader, id).await?;
    ensure!(exit_code(&mut cluster.members[removed]).await? == exit::REMOVED, "{}", cluster.members[removed].log_tail());
    cluster.put(leader, "alone", "x").await?;
    cluster.members[leader].stop().await?;
    cluster.members[leader].restart().await?;
    cluster.put(leader, "still", "x").await?;
    Ok(())
}

async fn wait_added(cluster: &Cluster, by: usize, url: &str) -> Result<u64> {
    let mut members = client(cluster, by).await?;
    let mut id = None;
    wait::until("the member may be added", LIMIT, async || {
        id = members.member_add(add(&[url], false)).await.ok().and_then(|r| r.into_inner().member).map(|m| m.id);
        Ok(id.is_some())
    })
    .await?;
    id.context("it was added")
}

#[tokio::test]
async fn a_member_is_replaced_under_load_and_nothing_that_was_acknowledged_is_lost() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let (by, old) = ((leader + 1) % 3, (leader + 2) % 3);
    let old_id = cluster.id(old).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = [leader, by]
        .into_iter()
        .map(|through| {
            let url = cluster.members[through].client_url();
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut kv = KvClient::connect(url).await?;
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    if *stopped.borrow() {
                        break;
                    }
                    let key = format!("load/{through}/{n}");
                    let put = PutRequest { key: key.clone().into(), value: vec![b'v'; 500].into(), ..Default::default() };
                    // One that failed is tried no more: whether it is there is open.
                    if kv.put(limited(put)).await.is_ok() {
                        acknowledged.push(key);
                    }
                }
                anyhow::Ok(acknowledged)
            })
        })
        .collect();

    cluster.remove(by, old_id).await?;
    ensure!(exit_code(&mut cluster.members[old]).await? == exit::REMOVED);
    let (new, new_id) = cluster.add(by, false).await?;
    // The flags name members that are there, and no others.
    let named: Vec<String> =
        [leader, by, new].iter().map(|n| format!("{}={}", cluster.members[*n].name(), cluster.members[*n].peer_url())).collect();
    cluster.members[new].set_cluster(named.join(","), true);
    cluster.members[new].spawn()?;
    cluster.members[new].ready().await?;
    ensure!(cluster.id(new).await? == new_id && new_id != old_id);
    stop.send_replace(true);

    let mut kv = KvClient::connect(cluster.members[new].client_url()).await?;
    let mut acknowledged = 0;
    for writer in writers {
        for key in writer.await?? {
            let range = RangeRequest { key: key.clone().into(), count_only: true, ..Default::default() };
            ensure!(kv.range(limited(range)).await?.into_inner().count == 1, "{key} is lost");
            acknowledged += 1;
        }
    }
    println!("{acknowledged} writes were acknowledged");
    ensure!(acknowledged > 100);
    cluster.agree(&[leader, by, new]).await
}

#[tokio::test]
async fn a_removed_leader_leaves_after_the_others_have_another() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let others: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    let id = cluster.id(leader).await?;
    cluster.remove(others[0], id).await?;
    ensure!(exit_code(&mut cluster.members[leader]).await? == exit::REMOVED, "{}", cluster.members[leader].log_tail());
    cluster.put(others[1], "without", "it").await?;
    ensure!(others.contains(&cluster.leader(&others).await?));
    cluster.agree(&others).await
}

#[tokio::test]
async fn an_empty_volume_is_refused_by_the_others_when_nobody_could_be_asked_first() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let lost = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|n| *n != lost).collect();
    cluster.put(leader, "kept", "x").await?;
    cluster.members[lost].kill();
    fs::remove_dir_all(cluster.members[lost].data_dir())?;
    for other in &others {
        cluster.members[*other].pause(true)?;
    }
    // To itself it is the first of a new cluster.
    cluster.members[lost].spawn()?;
    let identity = cluster.members[lost].data_dir().join("identity.json");
    wait::until("it has begun anew", LIMIT, async || Ok(identity.is_file())).await?;
    for other in &others {
        cluster.members[*other].pause(false)?;
    }
    ensure!(exit_code(&mut cluster.members[lost]).await? == exit::DATA_GONE, "{}", cluster.members[lost].log_tail());
    wait::until("the others go on", LIMIT, async || Ok(cluster.get(others[0], "kept").await.is_ok_and(|v| v.is_some()))).await?;
    cluster.agree(&others).await
}

#[tokio::test]
async fn the_member_list_survives_restarts_of_everybody() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let removed = 2;
    let id = cluster.id(removed).await?;
    cluster.remove(0, id).await?;
    exit_code(&mut cluster.members[removed]).await?;
    let before = cluster.list(0).await?;
    for round in 0..2 {
        for number in 0..2 {
            if round == 0 { cluster.members[number].stop().await? } else { cluster.members[number].kill() }
        }
        cluster.members[0].spawn()?;
        cluster.members[1].spawn()?;
        for number in 0..2 {
            cluster.members[number].ready().await?;
            let mut members = client(&cluster, number).await?;
            // What each has by itself, and what all have agreed on.
            for linearizable in [false, true] {
                let list = members.member_list(limited(MemberListRequest { linearizable })).await?.into_inner().members;
                ensure!(list == before && list.iter().all(|m| m.id != id), "{list:?} instead of {before:?}");
            }
        }
    }
    Ok(())
}
