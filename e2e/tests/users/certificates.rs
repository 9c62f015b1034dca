//! Users by their certificates, where clients have to show one.

use std::sync::Arc;

use anyhow::{Result, ensure};
use keelson_api::etcdserverpb::RangeRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::pki::{Pki, Wanted};
use keelson_e2e::ports::Reservation;
use keelson_e2e::server::Server;
use tokio::process::Command;
use tonic::Request;
use tonic::transport::Endpoint;

use super::common::{Caller, FLAGS, ask_for_users, both, said};

/// What a read of a key is answered, over a connection with this certificate and with this metadata.
async fn read(server: &Server, pki: &Pki, shown: &str, key: &'static str, metadata: &[(&'static str, &str)]) -> Result<String> {
    let endpoint = Endpoint::from_shared(server.client_url())?.tls_config(pki.trusting(Some(shown))?)?;
    let mut kv = KvClient::new(endpoint.connect().await?);
    let mut request = Request::new(RangeRequest { key: key.into(), ..Default::default() });
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse()?);
    }
    Ok(said(kv.range(request).await))
}

#[tokio::test]
async fn the_name_in_a_certificate_is_the_user_unless_there_is_a_token() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    for (serial, name) in [(31, "ann"), (32, "root"), (33, "gone")] {
        pki.issue(name, &Wanted { name, hosts: &[], serial, ..Wanted::default() })?;
    }
    for program in both()? {
        let reservation = Reservation::new()?;
        let mut server = Server::member(program, "m0", reservation.ports()?, FLAGS)?;
        server.secure(pki.clone());
        drop(reservation);
        server.restart().await?;
        let root = ask_for_users(&server).await?;
        let denied = "PermissionDenied: etcdserver: permission denied";
        for (shown, key, expected) in
            [("ann", "a", "accepted"), ("ann", "z", denied), ("root", "z", "accepted"), ("gone", "a", denied)]
        {
            let told = read(&server, &pki, shown, key, &[]).await?;
            ensure!(told == expected, "{} {shown} reads {key}: {told}", program.name());
        }
        let token = root.token().unwrap_or_default();
        ensure!(read(&server, &pki, "ann", "z", &[("token", token)]).await? == "accepted", "a token counts more");
        let told = read(&server, &pki, "root", "z", &[("authorization", "nonsense")]).await?;
        ensure!(told == "Unauthenticated: etcdserver: invalid auth token", "{}: {told}", program.name());
        let told = read(&server, &pki, "root", "z", &[("grpcgateway-accept", "x")]).await?;
        ensure!(told == "InvalidArgument: etcdserver: user name is empty", "{}: {told}", program.name());
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_is_only_checked_names_nobody() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    pki.issue("root", &Wanted { name: "root", hosts: &[], serial: 32, ..Wanted::default() })?;
    for program in both()? {
        let reservation = Reservation::new()?;
        // The authority alone: certificates are demanded, and that is all.
        let mut server = Server::member(program, "m0", reservation.ports()?, FLAGS)?;
        server.secure(pki.clone());
        server.add_flags(&["--client-cert-auth=false"]);
        drop(reservation);
        server.restart().await?;
        ask_for_users(&server).await?;
        let told = read(&server, &pki, "root", "z", &[]).await?;
        ensure!(told == "InvalidArgument: etcdserver: user name is empty", "{}: {told}", program.name());
        ensure!(said(Caller::named(&server, "ann").await?.put("a").await) == "accepted");
    }
    Ok(())
}

/// HTTP's status of an empty request to the gateway or of a question, over a connection with a certificate.
async fn http_status(server: &Server, pki: &Pki, shown: &str, version: &str, path: &str) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}"]);
    command.arg(version).arg("--cacert").arg(pki.path("ca.crt"));
    command.arg("--cert").arg(pki.path(&format!("{shown}.crt"))).arg("--key").arg(pki.path(&format!("{shown}.key")));
    if path.starts_with("/v3") {
        command.args(["--data", "{}"]);
    }
    let output = command.arg(format!("{}{path}", server.client_url())).output().await?;
    ensure!(output.status.success(), "curl {path}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn who_comes_to_the_gateway_with_a_certificate_that_names_a_user_is_refused_once_users_are_asked_for() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    for program in both()? {
        let reservation = Reservation::new()?;
        let mut server = Server::member(program, "m0", reservation.ports()?, FLAGS)?;
        server.secure(pki.clone());
        drop(reservation);
        server.restart().await?;
        let list = "/v3/cluster/member/list";
        let before = http_status(&server, &pki, "client", "--http1.1", list).await?;
        ensure!(before == "200", "{}: {before}", program.name());
        ask_for_users(&server).await?;
        for version in ["--http1.1", "--http2"] {
            let old = "/v3beta/cluster/member/list";
            for (path, expected) in [(list, "400"), (old, "400"), ("/v3/nothing", "400"), ("/version", "200")] {
                let told = http_status(&server, &pki, "client", version, path).await?;
                ensure!(told == expected, "{} {version} {path}: {told}", program.name());
            }
        }
    }
    Ok(())
}
