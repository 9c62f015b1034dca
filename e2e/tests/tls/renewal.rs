//! New files under a running server: the next handshake is with them.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use keelson_e2e::pki::{Pki, Wanted};
use keelson_e2e::program::Program;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::common::{ask, both, refused, secured};

/// The certificate that a server shows.
async fn shown(url: &str, pki: &Pki) -> Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(pki.path("ca.crt"))? {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_file_iter(pki.path("client.crt"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(pki.path("client.key"))?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    let address = url.split_once("://").context("a URL")?.1;
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, stream).await?;
    let chain = stream.get_ref().1.peer_certificates().context("a server shows a certificate")?;
    Ok(chain.first().context("a chain has a beginning")?.clone())
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() -> Result<()> {
    for program in both()? {
        let pki = Arc::new(Pki::new()?);
        let server = secured(program, &pki, &[]).await?;
        let url = server.client_url();
        let mut open = keelson_api::etcdserverpb::kv_client::KvClient::new(server.channel().await?);
        let first = shown(&url, &pki).await?;
        pki.issue("server", &Wanted { name: "renewed", serial: 99, ..Wanted::default() })?;
        let second = shown(&url, &pki).await?;
        ensure!(second != first && second == CertificateDer::from_pem_file(pki.path("server.crt"))?);
        ask(&url, Some(pki.trusting(Some("client"))?)).await?;
        open.range(keelson_api::etcdserverpb::RangeRequest { key: "key".into(), ..Default::default() })
            .await
            .context("a connection that was open goes on")?;
    }
    Ok(())
}

/// etcd fails handshakes meanwhile, and reads its authorities only once.
#[tokio::test]
async fn halves_of_a_renewal_do_no_harm_and_authorities_are_renewed_too() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let mut server = secured(Program::under_test()?, &pki, &[]).await?;
    let url = server.client_url();
    let good = Some("client");
    let (cert, key) = (fs::read(pki.path("server.crt"))?, fs::read(pki.path("server.key"))?);
    pki.issue("server", &Wanted { name: "renewed", serial: 99, ..Wanted::default() })?;
    let renewed = fs::read(pki.path("server.key"))?;
    pki.write("server.key", &key)?;
    ask(&url, Some(pki.trusting(good)?)).await.context("while only the certificate is there")?;
    pki.write("server.key", b"")?;
    ask(&url, Some(pki.trusting(good)?)).await.context("while the key is being written")?;
    fs::remove_file(pki.path("server.key"))?;
    ask(&url, Some(pki.trusting(good)?)).await.context("while there is no key")?;
    ensure!(shown(&url, &pki).await? == CertificateDer::from_pem_slice(&cert)?, "another certificate than before");
    pki.write("server.key", &renewed)?;
    ensure!(shown(&url, &pki).await? == CertificateDer::from_pem_file(pki.path("server.crt"))?, "the renewed one is not used");

    let other = Pki::new()?;
    for (name, file) in [("other.crt", "client.crt"), ("other.key", "client.key")] {
        pki.write(name, &fs::read(other.path(file))?)?;
    }
    refused("another authority", &url, Some(pki.trusting(Some("other"))?)).await?;
    let both = [fs::read(pki.path("ca.crt"))?, fs::read(other.path("ca.crt"))?].concat();
    pki.write("ca.crt", &both)?;
    ask(&url, Some(pki.trusting(Some("other"))?)).await.context("once it is trusted, too")?;
    ask(&url, Some(pki.trusting(good)?)).await?;
    server.stop().await
}
