//! Certificates, keys and lists of revoked certificates from files. Every error names the flag and the file.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::config::{Named, Pair};

fn read(file: &Named) -> Result<Vec<u8>, String> {
    std::fs::read(&file.path).map_err(|e| format!("{file} cannot be read: {e}"))
}

fn damaged(file: &Named, what: &str, e: &pem::Error) -> String {
    match e {
        pem::Error::NoItemsFound => format!("{file} has no {what} in PEM form"),
        e => format!("{file} is not PEM: {e}"),
    }
}

fn certificates(file: &Named, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let list = list.map_err(|e| damaged(file, "certificate", &e))?;
    if list.is_empty() {
        return Err(damaged(file, "certificate", &pem::Error::NoItemsFound));
    }
    Ok(list)
}

fn key(file: &Named, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|e| damaged(file, "private key", &e))
}

/// A certificate with its key.
pub fn pair(pair: &Pair, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let Pair { cert, key } = pair;
    let chain = certificates(cert, &read(cert)?)?;
    let leaf = chain.first().map(|der| Certificate::from_der(der));
    let Some(Ok(leaf)) = leaf else { return Err(format!("{cert}: its first certificate cannot be read")) };
    let private = self::key(key, &read(key)?)?;
    let loaded = CertifiedKey::from_der(chain, private, provider).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => format!("{key} does not match {cert}: the private key is of another certificate"),
        e => format!("{key} cannot be used with {cert}: {e}; keys are RSA, ECDSA with P-256 or P-384, or Ed25519"),
    })?;
    tracing::info!(
        cert = cert.path.display().to_string(),
        expires = leaf.tbs_certificate().validity().not_after.to_string(),
        "using certificate"
    );
    Ok(Arc::new(loaded))
}

/// Who may sign certificates: the file's, or the system's authorities.
pub fn roots(file: Option<&Named>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    for certificate in certificates(file, &read(file)?)? {
        roots.add(certificate).map_err(|e| format!("{file} has a certificate that cannot sign others: {e}"))?;
    }
    Ok(roots)
}

/// Revoked certificates, in DER form as etcd wants them, or in PEM.
pub fn revoked(file: &Named) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    lists(file, read(file)?)
}

fn lists(file: &Named, bytes: Vec<u8>) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    if bytes.starts_with(b"-----BEGIN") {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let lists = lists.map_err(|e| damaged(file, "list of revoked certificates", &e))?;
        return if lists.is_empty() {
            Err(damaged(file, "list of revoked certificates", &pem::Error::NoItemsFound))
        } else {
            Ok(lists)
        };
    }
    Ok(vec![CertificateRevocationListDer::from(bytes)])
}

#[cfg(test)]
mod fuzz;
