//! Certificates that are good but not good enough: revoked, or for somebody else.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use keelson_e2e::pki::{Pki, Wanted};

use super::common::{ask, both, curl, refused, secured, two_ports};

#[tokio::test]
async fn a_revoked_certificate_is_refused_as_soon_as_the_list_says_so() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    pki.issue("thief", &Wanted { name: "thief", serial: 4711, ..Wanted::default() })?;
    for program in both()? {
        pki.revoke(&[1234])?;
        let list = format!("--client-crl-file={}", pki.path("crl.der").display());
        let port = two_ports()?.client;
        let metrics = format!("https://127.0.0.1:{port}");
        let server = secured(program, &pki, &[&list, &format!("--listen-metrics-urls={metrics}")]).await?;
        let (url, health) = (server.client_url(), format!("{metrics}/health"));
        curl(&pki, Some("thief"), "--http2", &health).await?;
        ask(&url, Some(pki.trusting(Some("thief"))?)).await.context("before it is revoked")?;
        pki.revoke(&[1234, 4711])?;
        refused("a revoked certificate", &url, Some(pki.trusting(Some("thief"))?)).await?;
        ensure!(curl(&pki, Some("thief"), "--http2", &health).await.is_err(), "it is let in where metrics are");
        curl(&pki, Some("client"), "--http2", &health).await?;
        ask(&url, Some(pki.trusting(Some("client"))?)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_must_be_for_one_of_the_hosts_allowed() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    pki.issue("right", &Wanted { hosts: &["right.example.com"], serial: 21, ..Wanted::default() })?;
    pki.issue("wrong", &Wanted { hosts: &["wrong.example.com"], serial: 22, ..Wanted::default() })?;
    // The harness' own client must come in, too.
    pki.issue("client", &Wanted { hosts: &["client.example.com"], serial: 23, ..Wanted::default() })?;
    for program in both()? {
        let server = secured(program, &pki, &["--client-cert-allowed-hostname=client.example.com,right.example.com"]).await?;
        ask(&server.client_url(), Some(pki.trusting(Some("right"))?)).await?;
        refused("another host", &server.client_url(), Some(pki.trusting(Some("wrong"))?)).await?;
    }
    Ok(())
}
