//! Which certificates are shown and which are trusted.

use std::fs;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::exit::Failure;

/// What the flags say about it.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub cert: String,
    pub key: String,
    pub authorities: String,
    /// What certificates of servers must be for, if not for the host of the endpoint.
    pub server_name: String,
    pub without_tls: bool,
    pub trust_anybody: bool,
}

#[derive(Clone)]
pub struct Tls {
    pub config: Arc<ClientConfig>,
    pub server_name: Option<String>,
}

impl Files {
    /// TLS for endpoints that leave it open; none if no flag asks for it.
    pub fn wanted(&self) -> Result<Option<Tls>, Failure> {
        let named = [&self.cert, &self.key, &self.authorities, &self.server_name].iter().any(|text| !text.is_empty());
        if named || !self.without_tls || self.trust_anybody { self.load().map(Some) } else { Ok(None) }
    }

    /// TLS for endpoints that demand it.
    pub fn load(&self) -> Result<Tls, Failure> {
        let config = self.configure().map_err(Failure::args)?;
        let server_name = (!self.server_name.is_empty()).then(|| self.server_name.clone());
        Ok(Tls { config: Arc::new(config), server_name })
    }

    fn configure(&self) -> Result<ClientConfig, String> {
        if self.cert.is_empty() != self.key.is_empty() {
            return Err(format!("KeyFile and CertFile must both be present[key: {}, cert: {}]", self.key, self.cert));
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let builder = if self.trust_anybody {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = if self.cert.is_empty() {
            builder.with_no_client_auth()
        } else {
            let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
            let key = key.map_err(|e| format!("{} is not the PEM file of a private key: {e}", self.key))?;
            let shown = builder.with_client_auth_cert(certificates(&self.cert)?, key);
            shown.map_err(|e| format!("{} and {} cannot be used together: {e}", self.cert, self.key))?
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        if self.authorities.is_empty() {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            return Ok(roots);
        }
        for authority in certificates(&self.authorities)? {
            roots.add(authority).map_err(|e| format!("{} has a certificate that cannot be used: {e}", self.authorities))?;
        }
        Ok(roots)
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{path} cannot be read: {e}"))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match list {
        Ok(list) if list.is_empty() => Err(format!("{path} has no certificate in PEM form")),
        Ok(list) => Ok(list),
        Err(e) => Err(format!("{path} is not a PEM file: {e}")),
    }
}

/// Takes any certificate, for `--insecure-skip-tls-verify`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_needs_its_key_and_nothing_asks_for_tls_by_default() {
        let plain = Files { without_tls: true, ..Files::default() };
        assert!(plain.wanted().unwrap().is_none());
        let half = Files { cert: "c.crt".into(), ..plain };
        let failure = half.wanted().err().unwrap();
        assert_eq!(failure, Failure::args("KeyFile and CertFile must both be present[key: , cert: c.crt]"));
    }
}
