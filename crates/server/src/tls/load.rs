//! Certificates, keys and lists of revoked certificates from files. Every error names the flag and the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode, Encode};

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
    newest(file, lists(file, read(file)?)?)
}

/// The newest list of each issuer. Only the first of an issuer's is looked at when certificates are checked, and a file that
/// lists are added to has the oldest first. Lists for different parts of what an issuer has signed stand beside each other.
fn newest(
    file: &Named,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    const PART: &str = "2.5.29.28";
    let mut newest = BTreeMap::new();
    for der in lists {
        let unreadable = |e: x509_cert::der::Error| format!("{file} has a list of revoked certificates that cannot be read: {e}");
        let list: CertificateList = CertificateList::from_der(&der).map_err(unreadable)?;
        let list = list.tbs_cert_list;
        let part = list.crl_extensions.iter().flatten().find(|e| e.extn_id.to_string() == PART);
        let of = (list.issuer.to_der().map_err(unreadable)?, part.map(|e| e.extn_value.as_bytes().to_vec()));
        let made = list.this_update.to_unix_duration();
        if newest.get(&of).is_none_or(|(before, _)| *before <= made) {
            newest.insert(of, (made, der));
        }
    }
    Ok(newest.into_values().map(|(_, der)| der).collect())
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
#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose, SerialNumber, date_time_ymd,
    };

    use super::*;

    fn issuer(name: &str) -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Issuer::new(params, KeyPair::generate().unwrap())
    }

    fn list(by: &Issuer<'static, KeyPair>, year: i32) -> rcgen::CertificateRevocationList {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(4096, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(by).unwrap()
    }

    #[test]
    fn of_several_lists_of_an_issuer_the_newest_counts_wherever_it_stands() {
        let file = Named { flag: "--client-crl-file".into(), path: "/x".into() };
        let (a, b) = (issuer("a"), issuer("b"));
        let made = [list(&a, 2020), list(&b, 2019), list(&a, 2051), list(&a, 2022)];
        let pem: String = made.iter().map(|l| l.pem().unwrap()).collect();
        let kept = newest(&file, lists(&file, pem.into_bytes()).unwrap()).unwrap();
        let kept: Vec<&[u8]> = kept.iter().map(AsRef::as_ref).collect();
        assert_eq!(kept.len(), 2);
        assert!(kept.contains(&made[1].der().as_ref()) && kept.contains(&made[2].der().as_ref()));
        let garbage = vec![CertificateRevocationListDer::from(vec![0x30, 0])];
        assert!(newest(&file, garbage).unwrap_err().contains("--client-crl-file=/x"));
    }
}
