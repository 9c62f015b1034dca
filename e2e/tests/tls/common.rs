//! Servers with certificates, and clients with and without.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::RangeRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::pki::Pki;
use keelson_e2e::ports::{Ports, Reservation};
use keelson_e2e::program::{Program, peer};
use keelson_e2e::server::Server;
use tokio::process::Command;
use tonic::transport::{ClientTlsConfig, Endpoint};

/// Longest that a question, its handshake included, may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What is compared, and what it is compared with.
pub fn both() -> Result<[Program; 2]> {
    Ok([Program::Etcd, Program::under_test()?])
}

/// A server with certificates of this authority on both of its ports, and these flags.
pub async fn secured(program: Program, pki: &Arc<Pki>, flags: &[&str]) -> Result<Server> {
    let (mut server, reservation) = prepared(program, pki, flags)?;
    drop(reservation);
    server.restart().await?;
    Ok(server)
}

/// The same, not started yet; its ports are taken until the reservation is dropped.
pub fn prepared(program: Program, pki: &Arc<Pki>, flags: &[&str]) -> Result<(Server, Reservation)> {
    let reservation = Reservation::new()?;
    let mut server = Server::member(program, "m0", reservation.ports()?, &[])?;
    server.secure(pki.clone());
    server.add_flags(flags);
    Ok((server, reservation))
}

/// Two ports that nobody has.
pub fn two_ports() -> Result<Ports> {
    Reservation::new()?.ports()
}

/// Reads a key at a URL, over TLS if there is a configuration for it.
pub async fn ask(url: &str, tls: Option<ClientTlsConfig>) -> Result<()> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())?;
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls)?;
    }
    let asked = async {
        let mut kv = KvClient::new(endpoint.connect().await?);
        kv.range(RangeRequest { key: "key".into(), ..Default::default() }).await?;
        Ok(())
    };
    tokio::time::timeout(LIMIT, asked).await.context("no answer")?
}

/// That the same question is not answered.
pub async fn refused(what: &str, url: &str, tls: Option<ClientTlsConfig>) -> Result<()> {
    let answer = ask(url, tls).await;
    println!("{what}: {answer:?}");
    ensure!(answer.is_err(), "{what}: not refused");
    Ok(())
}

/// What etcdctl prints; an error if it fails.
pub async fn etcdctl(url: &str, pki: &Pki, shown: Option<&str>, args: &[&str]) -> Result<String> {
    let mut command = Command::new(peer("etcdctl")?);
    command.env_clear().arg(format!("--endpoints={url}")).arg("--command-timeout=5s");
    command.arg(format!("--cacert={}", pki.path("ca.crt").display()));
    if let Some(shown) = shown {
        command.arg(format!("--cert={}", pki.path(&format!("{shown}.crt")).display()));
        command.arg(format!("--key={}", pki.path(&format!("{shown}.key")).display()));
    }
    let output = command.args(args).output().await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "etcdctl {args:?}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What curl gets; an error if it is refused.
pub async fn curl(pki: &Pki, shown: Option<&str>, options: &str, url: &str) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "10"]).args(options.split_whitespace());
    command.arg("--cacert").arg(pki.path("ca.crt"));
    if let Some(shown) = shown {
        command.arg("--cert").arg(pki.path(&format!("{shown}.crt"))).arg("--key").arg(pki.path(&format!("{shown}.key")));
    }
    let output = command.arg(url).output().await?;
    ensure!(output.status.success(), "curl {url}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
