//! Members that move: to another address under the same name, which is looked up for every connection; and to another
//! URL, which the others are told of. Serves DNS on a loopback address, which needs root.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use keelson_api::etcdserverpb::MemberUpdateRequest;
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::dns::{Dns, Records};
use keelson_e2e::program::Program;

use super::{limited, three};

/// Another address of this machine, where nobody listens yet.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

fn host(number: usize) -> String {
    format!("host{number}.moving.test")
}

#[tokio::test]
async fn a_member_that_has_another_address_under_its_name_is_found_there() -> Result<()> {
    let addresses = (0..3).map(|number| (host(number), Ipv4Addr::LOCALHOST)).collect();
    let dns = Dns::start(Records { addresses, ..Records::default() }).await?;
    let mut cluster = Cluster::prepared(Program::under_test()?, 3, &[], None)?;
    let urls: Vec<String> = cluster
        .members
        .iter()
        .enumerate()
        .map(|(number, member)| member.peer_url().replace("127.0.0.1", &host(number)))
        .collect();
    let named: Vec<String> = cluster.members.iter().zip(&urls).map(|(member, url)| format!("{}={url}", member.name())).collect();
    for (member, url) in cluster.members.iter_mut().zip(&urls) {
        member.set_resolver(&dns);
        member.set_cluster(named.join(","), false);
        member.add_flags(&[&format!("--initial-advertise-peer-urls={url}")]);
        member.spawn()?;
    }
    for member in &mut cluster.members {
        member.ready().await?;
    }
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let moved = (leader + 1) % 3;
    cluster.members[moved].stop().await?;
    cluster.put(leader, "while", "it moves").await?;
    dns.set_address(&host(moved), ELSEWHERE);
    let there = cluster.members[moved].peer_url().replace("127.0.0.1", &ELSEWHERE.to_string());
    cluster.members[moved].add_flags(&[&format!("--listen-peer-urls={there}")]);
    cluster.members[moved].restart().await?;
    // The leader has to find it, and it the leader.
    ensure!(cluster.get(moved, "while").await?.as_deref() == Some("it moves"));
    cluster.put(moved, "there", "x").await?;
    cluster.agree(&[0, 1, 2]).await
}

#[tokio::test]
async fn a_member_is_reached_at_the_url_that_the_others_were_told() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let moved = (leader + 1) % 3;
    let id = cluster.id(moved).await?;
    let here = cluster.members[moved].peer_url();
    let there = here.replace("127.0.0.1", &ELSEWHERE.to_string());
    cluster.members[moved].stop().await?;
    let update = MemberUpdateRequest { id, peer_ur_ls: vec![there.clone()] };
    ClusterClient::connect(cluster.members[leader].client_url()).await?.member_update(limited(update)).await?;
    cluster.put(leader, "while", "it moves").await?;
    let flags = [format!("--listen-peer-urls={there}"), format!("--initial-advertise-peer-urls={there}")];
    let named = cluster.named().replace(&here, &there);
    cluster.members[moved].set_cluster(named, false);
    cluster.members[moved].add_flags(&flags.each_ref().map(String::as_str));
    cluster.members[moved].restart().await?;
    ensure!(cluster.get(moved, "while").await?.as_deref() == Some("it moves"));
    cluster.put(moved, "there", "x").await?;
    for number in 0..3 {
        let list = cluster.list(number).await?;
        ensure!(list.iter().any(|member| member.id == id && member.peer_ur_ls == [there.as_str()]), "{list:?}");
    }
    cluster.agree(&[0, 1, 2]).await
}
