//! Whom a certificate is for: what is asked of it beyond a good signature.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};

use crate::config::Security;
use crate::lookup;

/// Names of which a certificate must have one; any will do if both lists are empty.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    names: Vec<String>,
    hosts: Vec<String>,
}

fn parsed(leaf: &CertificateDer<'_>) -> Result<Certificate, String> {
    Certificate::from_der(leaf).map_err(|e| format!("the certificate cannot be read: {e}"))
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Of several the last one counts, as in Go's library: who it names must be the same person here and in etcd.
fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = certificate.tbs_certificate().subject();
    let name = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME).last()?;
    Some(match DirectoryString::try_from(&name.value).ok()? {
        DirectoryString::PrintableString(s) => s.to_string(),
        DirectoryString::TeletexString(s) => s.to_string(),
        DirectoryString::Utf8String(s) => s,
        DirectoryString::BmpString(s) => s.to_string(),
    })
}

/// The common name of a certificate; empty if it has none.
pub fn name_of(leaf: &CertificateDer<'_>) -> String {
    parsed(leaf).ok().and_then(|certificate| common_name(&certificate)).unwrap_or_default()
}

impl Allowed {
    /// Those of the flags.
    pub fn of(security: &Security) -> Self {
        Self { names: security.allowed_names.clone(), hosts: security.allowed_hosts.clone() }
    }

    /// Whether the certificate has one of the names.
    pub fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), String> {
        if !self.names.is_empty() {
            let name = common_name(&parsed(leaf)?).unwrap_or_default();
            if !self.names.contains(&name) {
                return Err(format!("the certificate's common name {name:?} is not one of those allowed"));
            }
        }
        if !self.hosts.is_empty() {
            let certificate = ParsedCertificate::try_from(leaf).map_err(|e| e.to_string())?;
            let good =
                |host: &String| ServerName::try_from(host.as_str()).is_ok_and(|n| verify_server_name(&certificate, &n).is_ok());
            if !self.hosts.iter().any(good) {
                return Err("the certificate is for none of the host names allowed".into());
            }
        }
        Ok(())
    }
}

/// Whether a client's certificate is good for the address it comes from. One that names no hosts is good for any.
pub async fn fits_address(leaf: &CertificateDer<'_>, from: IpAddr) -> Result<(), String> {
    let (addresses, names) = hosts(&parsed(leaf)?)?;
    if addresses.contains(&from.to_canonical()) || (addresses.is_empty() && names.is_empty()) {
        return Ok(());
    }
    if names.is_empty() {
        return Err(format!("the certificate is for {addresses:?}, the caller comes from {from}"));
    }
    if leads_to(&names, from).await {
        return Ok(());
    }
    Err(format!("the certificate is for {names:?}, and none of these names leads to the caller's address {from}"))
}

/// Addresses and names in a certificate.
fn hosts(certificate: &Certificate) -> Result<(Vec<IpAddr>, Vec<String>), String> {
    let found = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let found = found.map_err(|e| format!("the certificate's names cannot be read: {e}"))?;
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    for name in found.map_or_else(Vec::new, |(_, list)| list.0) {
        match name {
            GeneralName::DnsName(name) => names.push(name.to_string()),
            GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
                [a, b, c, d] => addresses.push(IpAddr::from([a, b, c, d])),
                ref bytes => addresses.extend(<[u8; 16]>::try_from(bytes).map(IpAddr::from)),
            },
            _ => {}
        }
    }
    Ok((addresses, names))
}

/// Asks the address for its names, and the names for their addresses.
async fn leads_to(names: &[String], from: IpAddr) -> bool {
    let from = from.to_canonical();
    for name in names.iter().filter(|n| !n.starts_with("*.")) {
        if let Ok(found) = lookup::addresses(name, 0).await
            && found.iter().any(|address| address.ip().to_canonical() == from)
        {
            return true;
        }
    }
    let known = names_of(from).await;
    known.iter().any(|known| names.iter().any(|name| matches(name, known)))
}

/// Whether the name of a certificate, which may begin with an asterisk, covers a name.
fn matches(name: &str, known: &str) -> bool {
    match name.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') => known.ends_with(domain),
        _ => name == known,
    }
}

async fn names_of(address: IpAddr) -> Vec<String> {
    let Ok(resolver) = TokioResolver::builder_tokio().and_then(|builder| builder.build()) else { return Vec::new() };
    let Ok(found) = resolver.reverse_lookup(address).await else { return Vec::new() };
    found.answers().iter().map(|record| record.data.to_string().trim_end_matches('.').to_owned()).collect()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(name: &str, hosts: &[&str]) -> CertificateDer<'static> {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_needs_one_of_the_allowed_names() {
        let leaf = certificate("peer-1", &["m1.example.com", "10.0.0.1"]);
        let allowed = |names: &[&str], hosts: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
            Allowed { names: owned(names), hosts: owned(hosts) }.check(&leaf)
        };
        assert!(allowed(&[], &[]).is_ok() && allowed(&["x", "peer-1"], &[]).is_ok());
        assert!(allowed(&["peer"], &[]).unwrap_err().contains("peer-1"));
        assert!(allowed(&[], &["m1.example.com"]).is_ok() && allowed(&[], &["10.0.0.1"]).is_ok());
        assert!(allowed(&[], &["m2.example.com"]).is_err());
        assert_eq!(name_of(&leaf), "peer-1");
        assert_eq!(name_of(&CertificateDer::from(vec![1, 2, 3])), "");
    }

    #[test]
    fn of_two_common_names_the_later_one_counts() {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "first");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "second");
        let leaf = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        assert_eq!(name_of(&leaf), "second");
    }

    #[tokio::test]
    async fn a_certificate_must_fit_the_address_that_its_owner_comes_from() {
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        let by_address = certificate("a", &["10.0.0.1", "::1"]);
        assert!(fits_address(&by_address, from("10.0.0.1")).await.is_ok());
        assert!(fits_address(&by_address, from("::ffff:10.0.0.1")).await.is_ok());
        assert!(fits_address(&by_address, from("10.0.0.2")).await.unwrap_err().contains("10.0.0.2"));
        assert!(fits_address(&certificate("a", &["localhost"]), from("127.0.0.1")).await.is_ok());
        assert!(fits_address(&certificate("a", &[]), from("10.0.0.2")).await.is_ok());
    }

    #[test]
    fn an_asterisk_covers_names_below_a_domain() {
        assert!(matches("*.etcd.svc", "m0.etcd.svc") && matches("m0.etcd.svc", "m0.etcd.svc"));
        assert!(!matches("*.etcd.svc", "etcd.svc") && !matches("m0.etcd.svc", "m1.etcd.svc") && !matches("*x", "yx"));
    }
}
