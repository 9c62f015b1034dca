//! The calling side: members call each other with their certificates, and verify whom they reach.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::load;
use super::names::Allowed;
use super::reloaded::Reloaded;
use crate::config::{Pair, Security};

/// TLS of calls.
pub struct Client {
    /// Or why there is none.
    config: Result<Reloaded<Arc<ClientConfig>>, String>,
    allowed: Allowed,
    /// What a server's certificate must be for, if not for the name in its URL.
    server_name: Option<String>,
}

impl Client {
    /// Reads the files. The certificate that is shown is `own` unless there is another for calls.
    pub fn new(security: &Security, own: Option<&Pair>, server_name: Option<String>) -> Result<Self, String> {
        let shown = security.as_client.clone().or_else(|| own.cloned());
        let pair = shown.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        let files: Vec<PathBuf> =
            pair.chain(&security.trusted_ca).chain(&security.revoked).map(|file| file.path.clone()).collect();
        let used = security.clone();
        let config = Reloaded::new(files, move || configure(&used, shown.as_ref()))?;
        Ok(Self { config: Ok(config), allowed: Allowed::of(security), server_name })
    }

    /// For calls that may all turn out to be http. Files that the flags name are read at once; that the system has no
    /// authorities shows only when an https URL is called.
    pub fn if_needed(security: &Security, own: Option<&Pair>, server_name: Option<String>) -> Result<Self, String> {
        let names_files =
            security.as_client.as_ref().or(own).is_some() || security.trusted_ca.is_some() || security.revoked.is_some();
        match Self::new(security, own, server_name.clone()) {
            Err(why) if !names_files => Ok(Self { config: Err(why), allowed: Allowed::of(security), server_name }),
            made => made,
        }
    }

    /// Shakes hands with a server. Its certificate must be for `host`, a name or an address, as it is in the URL.
    pub async fn connect<T>(&self, host: &str, io: T) -> Result<TlsStream<T>, String>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let host = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host} cannot be in a certificate: {e}"))?;
        let connector = TlsConnector::from(self.config.as_ref().map_err(Clone::clone)?.get());
        let io = connector.connect(name, io).await.map_err(|e| format!("TLS handshake: {e}"))?;
        if let Some(leaf) = io.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
            self.allowed.check(leaf)?;
        }
        Ok(io)
    }
}

fn configure(security: &Security, shown: Option<&Pair>) -> Result<Arc<ClientConfig>, String> {
    let protocol = &security.protocol;
    let provider = &protocol.provider;
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&protocol.versions).map_err(|e| e.to_string())?;
    let builder = if security.trusts_anybody {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider.clone())))
    } else {
        let roots = load::roots(security.trusted_ca.as_ref())?;
        let mut verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        if let Some(file) = &security.revoked {
            verifier = verifier.with_crls(load::revoked(file)?).allow_unknown_revocation_status();
        }
        let verifier = verifier.build().map_err(|e| match &security.trusted_ca {
            Some(file) => format!("{file} cannot be used to check the certificates of servers: {e}"),
            None => format!(
                "certificates of servers cannot be checked, for the system has no authorities ({e}); install its CA certificates \
                 or name a file of them (--peer-trusted-ca-file, --discovery-cacert)"
            ),
        })?;
        builder.with_webpki_verifier(verifier)
    };
    let mut config = match shown {
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(load::pair(pair, provider)?))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Takes any certificate, as those that members make for themselves with `--peer-auto-tls`. What is said stays secret
/// from those who only listen.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
