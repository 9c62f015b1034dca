//! How clusters begin: alone after a disaster, by DNS, by a cluster that others meet in, or not at all when the data or
//! the token is of another.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{MemberListRequest, PutRequest};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::dns::{Dns, Records};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::{ports::Reservation, wait};

const LIMIT: Duration = Duration::from_secs(30);

fn both() -> Result<[Program; 2]> {
    Ok([Program::Etcd, Program::under_test()?])
}

#[tokio::test]
async fn one_member_goes_on_alone_when_it_is_forced_to() -> Result<()> {
    for program in both()? {
        println!("--- {}", program.name());
        let mut cluster = Cluster::start(program, 3, &[]).await?;
        for number in 0..20 {
            cluster.put(number % 3, &format!("key{number}"), "before").await?;
        }
        cluster.agree(&[0, 1, 2]).await?;
        // etcd only knows what is committed when it saves the next write, and drops the rest when it is forced.
        cluster.put(0, "last", "x").await?;
        let id = cluster.id(0).await?;
        for member in &mut cluster.members {
            member.kill();
        }
        cluster.members[0].add_flags(&["--force-new-cluster"]);
        cluster.members[0].restart().await?;
        ensure!(cluster.id(0).await? == id, "it has another id");
        ensure!(cluster.get(0, "key19").await?.as_deref() == Some("before"), "data is gone");
        cluster.put(0, "alone", "x").await?;
        let list = cluster.list(0).await?;
        ensure!(list.len() == 1 && list[0].id == id && !list[0].is_learner, "{list:?}");

        // Without the flag from here on, or those that are added would be removed again.
        cluster.members[0].stop().await?;
        cluster.members[0].add_flags(&["--force-new-cluster=false"]);
        cluster.members[0].restart().await?;
        ensure!(cluster.get(0, "alone").await?.as_deref() == Some("x"));
        cluster.members.truncate(1);
        for _ in 0..2 {
            let (new, _) = cluster.add(0, false).await?;
            cluster.members[new].spawn()?;
            cluster.members[new].ready().await?;
        }
        cluster.agree(&[0, 1, 2]).await?;
        ensure!(cluster.list(2).await?.len() == 3);
        cluster.put(2, "grown", "x").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_member_that_was_left_behind_is_refused() -> Result<()> {
    let mut cluster = Cluster::start(Program::under_test()?, 3, &[]).await?;
    cluster.put(0, "key", "before").await?;
    for member in &mut cluster.members {
        member.kill();
    }
    cluster.members[0].add_flags(&["--force-new-cluster"]);
    cluster.members[0].restart().await?;
    cluster.put(0, "alone", "x").await?;
    cluster.members[1].spawn()?;
    wait::until("the member that was left behind is told", LIMIT, async || {
        Ok(cluster.members[0].log().contains("has been removed from the cluster"))
    })
    .await
    .with_context(|| cluster.members[0].log_tail())?;
    ensure!(cluster.list(0).await?.len() == 1);
    cluster.put(0, "still alone", "x").await?;
    Ok(())
}

#[tokio::test]
async fn a_member_with_another_token_is_refused_and_both_say_why() -> Result<()> {
    let reservations = [Reservation::new()?, Reservation::new()?];
    let mut members = Vec::new();
    for (number, reservation) in reservations.iter().enumerate() {
        let token = format!("--initial-cluster-token=token-{number}");
        members.push(Server::member(Program::under_test()?, &format!("m{number}"), reservation.ports()?, &[&token])?);
    }
    let named: Vec<String> = members.iter().map(|m| format!("{}={}", m.name(), m.peer_url())).collect();
    drop(reservations);
    for member in &mut members {
        member.set_cluster(named.join(","), false);
        member.spawn()?;
    }
    for member in &members {
        wait::until("the other token is noticed", LIMIT, async || {
            let log = member.log();
            Ok(log.contains("has refused a call")
                && log.contains("cluster ID mismatch")
                && log.contains("--initial-cluster-token"))
        })
        .await
        .with_context(|| member.log_tail())?;
    }
    Ok(())
}

/// Both programs give the members that DNS names the same ids.
#[tokio::test]
async fn three_members_find_each_other_by_dns() -> Result<()> {
    let reservations = [Reservation::new()?, Reservation::new()?, Reservation::new()?];
    let ports = reservations.iter().map(Reservation::ports).collect::<Result<Vec<_>>>()?;
    drop(reservations);
    let mut records = Records::default();
    for (number, ports) in ports.iter().enumerate() {
        let host = format!("host{number}.cluster.test");
        records.addresses.insert(host.clone(), Ipv4Addr::LOCALHOST);
        records.services.entry("_etcd-server-here._tcp.cluster.test".to_owned()).or_default().push((host, ports.peer));
    }
    let dns = Dns::start(records).await?;
    let mut clusters = Vec::new();
    for program in both()? {
        let mut members = Vec::new();
        for (number, ports) in ports.iter().enumerate() {
            let flags = ["--discovery-srv=cluster.test", "--discovery-srv-name=here"];
            let mut member = Server::member(program, &format!("m{number}"), *ports, &flags)?;
            member.find_cluster();
            member.set_resolver(&dns);
            member.spawn()?;
            members.push(member);
        }
        for member in &mut members {
            member.ready().await.with_context(|| format!("a member of {}", program.name()))?;
        }
        let mut client = ClusterClient::new(members[0].channel().await?);
        let list = client.member_list(MemberListRequest { linearizable: true }).await?.into_inner();
        let mut ids: Vec<_> = list.members.into_iter().map(|m| (m.name, m.id, m.peer_ur_ls)).collect();
        ids.sort();
        clusters.push((list.header.context("a header")?.cluster_id, ids));
    }
    ensure!(clusters[0] == clusters[1], "etcd has {:?}, keelson {:?}", clusters[0], clusters[1]);
    Ok(())
}

#[tokio::test]
async fn a_domain_without_members_is_an_error() -> Result<()> {
    let dns = Dns::start(Records::default()).await?;
    let reservation = Reservation::new()?;
    let mut member = Server::member(Program::under_test()?, "m0", reservation.ports()?, &["--discovery-srv=cluster.test"])?;
    member.find_cluster();
    member.set_resolver(&dns);
    drop(reservation);
    member.spawn()?;
    wait::until("it gives up", LIMIT, async || Ok(member.exit_status()?.is_some())).await?;
    let log = member.log();
    ensure!(log.contains("_etcd-server-ssl._tcp.cluster.test") && log.contains("_etcd-server._tcp"), "{}", member.log_tail());
    Ok(())
}

async fn write(registry: &Server, key: &str, value: &str) -> Result<()> {
    let mut kv = KvClient::new(registry.channel().await?);
    kv.put(PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }).await?;
    Ok(())
}

/// Members of both programs find a registry of the other kind.
#[tokio::test]
async fn three_members_find_each_other_in_another_cluster() -> Result<()> {
    for (of_registry, program) in [(Program::Etcd, Program::under_test()?), (Program::under_test()?, Program::Etcd)] {
        println!("--- {} by {}", program.name(), of_registry.name());
        let registry = Server::start(of_registry, &[]).await?;
        write(&registry, "/_etcd/registry/new/_config/size", "3").await?;
        let endpoints = format!("--discovery-endpoints={}", registry.client_url());
        let mut members = Vec::new();
        for number in 0..4 {
            let reservation = Reservation::new()?;
            let flags = ["--discovery-token=new", &endpoints];
            let mut member = Server::member(program, &format!("m{number}"), reservation.ports()?, &flags)?;
            member.find_cluster();
            drop(reservation);
            members.push(member);
        }
        let mut late = members.pop().context("four members")?;
        for member in &mut members {
            member.spawn()?;
        }
        for member in &mut members {
            member.ready().await?;
        }
        write(&members[0], "key", "value").await?;
        let mut client = ClusterClient::new(members[1].channel().await?);
        let list = client.member_list(MemberListRequest { linearizable: true }).await?.into_inner();
        ensure!(list.members.len() == 3, "{list:?}");

        late.spawn()?;
        wait::until("a fourth member is turned away", LIMIT, async || Ok(late.exit_status()?.is_some())).await?;
        ensure!(late.log().contains("cluster is full"), "{}", late.log_tail());
        for member in &mut members {
            member.stop().await?;
            member.spawn()?;
        }
        for member in &mut members {
            member.ready().await.context("again, when the registry is not asked")?;
        }
    }
    Ok(())
}

/// Two faults at once: the system has no certificate authorities, which http does not need, and the first endpoint takes
/// connections but never answers.
#[tokio::test]
async fn a_registry_over_http_is_found_without_authorities_and_behind_a_silent_endpoint() -> Result<()> {
    let registry = Server::start(Program::Etcd, &[]).await?;
    write(&registry, "/_etcd/registry/new/_config/size", "1").await?;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoints = format!("--discovery-endpoints=http://{},{}", silent.local_addr()?, registry.client_url());
    let reservation = Reservation::new()?;
    let flags = ["--discovery-token=new", "--discovery-request-timeout=500ms", &endpoints];
    let mut member = Server::member(Program::under_test()?, "m0", reservation.ports()?, &flags)?;
    member.find_cluster();
    member.set_env("SSL_CERT_FILE", Some("/dev/null".to_owned()));
    drop(reservation);
    member.spawn()?;
    member.ready().await.with_context(|| member.log_tail())?;
    ensure!(member.log().contains("the discovery service cannot be asked"), "{}", member.log_tail());
    write(&member, "key", "value").await
}

#[tokio::test]
async fn a_registry_without_a_size_is_an_error() -> Result<()> {
    for program in both()? {
        let registry = Server::start(Program::Etcd, &[]).await?;
        let reservation = Reservation::new()?;
        let endpoints = format!("--discovery-endpoints={}", registry.client_url());
        let mut member = Server::member(program, "m0", reservation.ports()?, &["--discovery-token=new", &endpoints])?;
        member.find_cluster();
        drop(reservation);
        member.spawn()?;
        wait::until("it gives up", LIMIT, async || Ok(member.exit_status()?.is_some())).await?;
        ensure!(!member.exit_status()?.context("it has ended")?.success());
        ensure!(member.log().contains("discovery: size key not found"), "{}", member.log_tail());
    }
    Ok(())
}
