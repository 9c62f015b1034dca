//! Members that speak TLS to each other.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::pki::{Pki, Wanted};
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use tokio::net::TcpStream;

use super::common::{ask, etcdctl, refused};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn three_members_agree_over_tls_and_take_renewed_certificates() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let mut cluster = Cluster::start_with(Program::under_test()?, 3, &[], Some(pki.clone())).await?;
    for writer in 0..3 {
        cluster.put(writer, "key", &writer.to_string()).await?;
        for reader in 0..3 {
            ensure!(cluster.get(reader, "key").await? == Some(writer.to_string()));
        }
    }
    let urls: Vec<String> = cluster.members.iter().map(|m| m.client_url()).collect();
    let health = etcdctl(&urls.join(","), &pki, Some("client"), &["endpoint", "health"]).await;
    ensure!(health.is_ok(), "{health:?}");

    // All certificates are renewed, and two members after each other have to make all their connections anew.
    pki.issue("peer", &Wanted { name: "peer", serial: 77, ..Wanted::default() })?;
    pki.issue("server", &Wanted { name: "server", serial: 78, ..Wanted::default() })?;
    for _ in 0..2 {
        let leader = cluster.leader(&[0, 1, 2]).await?;
        cluster.members[leader].kill();
        let other = (leader + 1) % 3;
        wait::until("writes go on", LIMIT, async || Ok(cluster.put(other, "after", "x").await.is_ok())).await?;
        cluster.members[leader].restart().await?;
        cluster.agree(&[0, 1, 2]).await?;
    }
    let (new, _) = cluster.add(0, false).await?;
    cluster.members[new].spawn()?;
    cluster.members[new].ready().await?;
    cluster.agree(&[0, 1, 2, 3]).await
}

#[tokio::test]
async fn a_peer_port_is_closed_to_who_has_no_certificate() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let cluster = Cluster::start_with(Program::under_test()?, 1, &[], Some(pki.clone())).await?;
    let peer = cluster.members[0].peer_url();
    refused("a peer without a certificate", &peer, Some(pki.trusting(None)?)).await?;
    refused("a peer without TLS", &peer.replace("https", "http"), None).await?;
    let foreign = Pki::new()?;
    refused("a peer of another authority", &peer, Some(foreign.trusting(Some("peer"))?)).await?;
    // It is let in, and then told that this is not a member's call.
    let told = ask(&peer, Some(pki.trusting(Some("peer"))?)).await.unwrap_err();
    ensure!(format!("{told:#}").contains("who it is"), "{told:#}");
    Ok(())
}

/// A member with a certificate for another address than it calls from, and one with another common name.
#[tokio::test]
async fn members_with_the_wrong_names_do_not_join() -> Result<()> {
    for (flags, wanted, told) in [
        (vec![], Wanted { name: "peer", hosts: &["10.9.8.7"], serial: 50, ..Wanted::default() }, "10.9.8.7"),
        (vec!["--peer-cert-allowed-cn=peer"], Wanted { name: "stranger", serial: 51, ..Wanted::default() }, "stranger"),
    ] {
        let pki = Arc::new(Pki::new()?);
        let mut cluster = Cluster::start_with(Program::under_test()?, 1, &flags, Some(pki.clone())).await?;
        pki.issue("wrong", &wanted)?;
        let (new, _) = cluster.add(0, true).await?;
        let wrong = |flag: &str, file: &str| format!("--peer-{flag}={}", pki.path(file).display());
        // As a caller only: others are not to refuse to call it.
        let shown = [wrong("client-cert-file", "wrong.crt"), wrong("client-key-file", "wrong.key")];
        cluster.members[new].add_flags(&shown.each_ref().map(String::as_str));
        cluster.members[new].spawn()?;
        wait::until("the member is refused", LIMIT, async || {
            let log = cluster.members[0].log();
            Ok(log.lines().any(|line| line.contains("rejected connection") && line.contains(told)))
        })
        .await
        .with_context(|| cluster.members[0].log_tail())?;
    }
    Ok(())
}

/// A URL leads to whoever has the certificate for its host, or nowhere.
#[tokio::test]
async fn a_member_whose_certificate_is_for_another_host_is_not_called() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let mut cluster = Cluster::start_with(Program::under_test()?, 1, &[], Some(pki.clone())).await?;
    pki.issue("wrong", &Wanted { name: "peer", hosts: &["other.example.com"], serial: 60, ..Wanted::default() })?;
    let (new, _) = cluster.add(0, true).await?;
    let wrong = |flag: &str, file: &str| format!("--peer-{flag}={}", pki.path(file).display());
    let files = [
        wrong("cert-file", "wrong.crt"),
        wrong("key-file", "wrong.key"),
        wrong("client-cert-file", "peer.crt"),
        wrong("client-key-file", "peer.key"),
    ];
    cluster.members[new].add_flags(&files.each_ref().map(String::as_str));
    cluster.members[new].spawn()?;
    let address = cluster.members[new].peer_url().trim_start_matches("https://").to_owned();
    wait::until("the new member listens", LIMIT, async || Ok(TcpStream::connect(&address).await.is_ok())).await?;
    wait::until("it is not called", LIMIT, async || {
        let log = cluster.members[0].log();
        Ok(log.lines().any(|line| line.contains("cannot be reached") && line.contains("not valid for name")))
    })
    .await
    .with_context(|| cluster.members[0].log_tail())
}
