//! A port with certificates: clients that may come in and clients that may not, on etcd and here alike.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use keelson_e2e::kubernetes::apiserver::ApiServer;
use keelson_e2e::pki::{Pki, Wanted};
use keelson_e2e::program::Program;
use tonic::transport::{Certificate, ClientTlsConfig};

use super::common::{ask, both, curl, etcdctl, prepared, refused, secured, two_ports};

#[tokio::test]
async fn clients_come_in_with_a_certificate_of_the_authority_only() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let foreign = Pki::new()?;
    for (name, file) in [("foreign.crt", "client.crt"), ("foreign.key", "client.key")] {
        pki.write(name, &fs::read(foreign.path(file))?)?;
    }
    pki.issue("expired", &Wanted { name: "expired", has_expired: true, ..Wanted::default() })?;
    for program in both()? {
        println!("--- {}", program.name());
        let server = secured(program, &pki, &[]).await?;
        let url = server.client_url();
        ask(&url, Some(pki.trusting(Some("client"))?)).await?;
        etcdctl(&url, &pki, Some("client"), &["put", "key", "value"]).await?;
        ensure!(etcdctl(&url, &pki, Some("client"), &["get", "key", "--print-value-only"]).await? == "value\n");

        refused("no certificate", &url, Some(pki.trusting(None)?)).await?;
        refused("one of another authority", &url, Some(pki.trusting(Some("foreign"))?)).await?;
        refused("one that has expired", &url, Some(pki.trusting(Some("expired"))?)).await?;
        refused("no TLS", &url.replace("https", "http"), None).await?;
        ensure!(etcdctl(&url, &pki, None, &["get", "key"]).await.is_err(), "etcdctl without a certificate");
        let trusts_other = foreign.trusting(Some("client"))?;
        refused("a client that trusts another authority", &url, Some(trusts_other)).await?;
        ask(&url, Some(pki.trusting(Some("client"))?)).await.context("after those that were refused")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_enough_where_none_is_demanded() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    for program in both()? {
        let (mut server, reservation) = prepared(program, &pki, &["--trusted-ca-file=", "--client-cert-auth=false"])?;
        drop(reservation);
        server.restart().await?;
        ask(&server.client_url(), Some(pki.trusting(None)?)).await?;
        etcdctl(&server.client_url(), &pki, None, &["put", "key", "value"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn http_and_https_are_served_side_by_side_and_on_one_port() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    for program in both()? {
        let ports = two_ports()?;
        let (shared, plain) = (ports.client, ports.peer);
        let urls = format!("--listen-client-urls=https://127.0.0.1:{shared},http://127.0.0.1:{shared},http://127.0.0.1:{plain}");
        let (mut server, reservation) = prepared(program, &pki, &[&urls])?;
        drop(reservation);
        server.move_client_port(shared);
        server.restart().await?;
        ask(&format!("https://127.0.0.1:{shared}"), Some(pki.trusting(Some("client"))?)).await?;
        ask(&format!("http://127.0.0.1:{shared}"), None).await.context("http beside https on one port")?;
        ask(&format!("http://127.0.0.1:{plain}"), None).await.context("http on a port of its own")?;
        refused("https without a certificate", &format!("https://127.0.0.1:{shared}"), Some(pki.trusting(None)?)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn health_and_metrics_are_served_over_https_too() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    for program in both()? {
        let port = two_ports()?.client;
        let server = secured(program, &pki, &[&format!("--listen-metrics-urls=https://127.0.0.1:{port}")]).await?;
        for url in [format!("https://127.0.0.1:{port}"), server.client_url()] {
            for version in ["--http1.1", "--http2"] {
                let health = curl(&pki, Some("client"), version, &format!("{url}/health")).await?;
                ensure!(health.contains(r#""health":"true""#), "{url}: {health}");
            }
            let without = curl(&pki, None, "--http2", &format!("{url}/health")).await;
            ensure!(without.is_err(), "{} at {url} answers without a certificate: {without:?}", program.name());
        }
    }
    Ok(())
}

#[tokio::test]
async fn versions_and_ciphers_are_those_of_the_flags() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    // What curl may speak, and whether a server with the flag speaks that.
    const CASES: &[(&str, &[(&str, bool)])] = &[
        ("--tls-min-version=TLS1.3", &[("--tls-max 1.2", false), ("--tlsv1.3", true)]),
        ("--tls-max-version=TLS1.2", &[("--tls-max 1.2", true), ("--tlsv1.3", false)]),
        (
            "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_RSA_WITH_AES_128_CBC_SHA",
            &[
                ("--tls-max 1.2 --ciphers ECDHE-ECDSA-AES256-GCM-SHA384", true),
                ("--tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256", false),
                ("--tlsv1.3", true),
            ],
        ),
    ];
    for program in both()? {
        for (flag, clients) in CASES {
            let server = secured(program, &pki, &[flag]).await?;
            for (options, expected) in *clients {
                let answer = curl(&pki, Some("client"), options, &format!("{}/health", server.client_url())).await;
                ensure!(answer.is_ok() == *expected, "{} {flag}, curl {options}: {answer:?}", program.name());
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_makes_its_own_certificate_when_it_is_told_to() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let none = ["cert-file", "key-file", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file"];
    let mut flags: Vec<String> = none.iter().map(|flag| format!("--{flag}=")).collect();
    flags.extend(["client-cert-auth=false", "peer-client-cert-auth=false"].map(|flag| format!("--{flag}")));
    flags.extend(["--auto-tls", "--peer-auto-tls"].map(str::to_owned));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (mut server, reservation) = prepared(Program::under_test()?, &pki, &flags)?;
    drop(reservation);
    server.spawn()?;
    let made = server.data_dir().join("fixtures/client/cert.pem");
    keelson_e2e::wait::until("a certificate is made", std::time::Duration::from_secs(30), async || Ok(made.exists())).await?;
    let trusts = || Ok::<_, anyhow::Error>(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(&made)?)));
    keelson_e2e::wait::until("it answers", std::time::Duration::from_secs(30), async || {
        Ok(ask(&server.client_url(), Some(trusts()?)).await.is_ok())
    })
    .await?;
    let before = fs::read(&made)?;
    server.stop().await?;
    server.spawn()?;
    keelson_e2e::wait::until("it answers again", std::time::Duration::from_secs(30), async || {
        Ok(ask(&server.client_url(), Some(trusts()?)).await.is_ok())
    })
    .await?;
    ensure!(fs::read(&made)? == before, "another certificate was made");
    Ok(())
}

/// The three flags that kubeadm gives kube-apiserver for its store.
#[tokio::test]
async fn kube_apiserver_works_with_certificates() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let store = secured(Program::under_test()?, &pki, &["--watch-progress-notify-interval=5s"]).await?;
    let file = |flag: &str, file: &str| format!("--etcd-{flag}={}", pki.path(file).display());
    let flags = [file("cafile", "ca.crt"), file("certfile", "client.crt"), file("keyfile", "client.key")];
    let apiserver = ApiServer::start_with(&store.client_url(), &flags).await?;
    let name = serde_json::json!({ "metadata": { "name": "tls" } });
    let created = apiserver.client().call(hyper::Method::POST, "/api/v1/namespaces", Some(&name)).await?;
    ensure!(created.status == 201, "{}", created.text());
    ensure!(apiserver.client().get("/api/v1/namespaces/tls").await?.status == 200);
    let keys = etcdctl(&store.client_url(), &pki, Some("client"), &["get", "/registry/namespaces/tls", "--keys-only"]).await?;
    ensure!(keys.contains("/registry/namespaces/tls"), "{keys:?}");
    Ok(())
}
