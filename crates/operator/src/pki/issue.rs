//! Making authorities and the certificates they sign.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::read::first;
use super::wanted::Wanted;
use crate::api::Leaf;

/// How long an authority is good. It is replaced when a fifth of that is left, so that all it signs ends before it does.
const AUTHORITY: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Clocks of members and clients may be that much behind.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A certificate and its key, in PEM form.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A new authority. Its `name` must be unlike any other's: by it one tells who signed what.
pub fn authority(name: &str, now: Timestamp) -> Result<Pair, String> {
    let make = || {
        let mut params = authority_params(name);
        (params.not_before, params.not_after) = (time(now - SKEW), time(now + AUTHORITY));
        let key = KeyPair::generate()?;
        Ok::<_, Error>(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    };
    make().map_err(|error| format!("no authority could be made: {error}"))
}

/// A certificate signed by `authority`.
pub fn leaf(authority: &Pair, wanted: &Wanted, now: Timestamp) -> Result<Pair, String> {
    let signer = first(authority.certificate.as_bytes())?;
    // As it was written by `authority_params`; a name that others gave would not be found again so.
    let name =
        signer.subject.strip_prefix("CN=").ok_or_else(|| format!("{} is not an authority of this operator", signer.subject))?;
    let make = || {
        let issuer = Issuer::new(authority_params(name), KeyPair::from_pem(&authority.key)?);
        let mut params = CertificateParams::new(wanted.hosts.clone())?;
        params.distinguished_name = named(&wanted.name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = usages(wanted.leaf);
        params.use_authority_key_identifier_extension = true;
        params.not_before = time(now - SKEW);
        params.not_after = time((now + wanted.validity()).min(signer.until));
        let key = KeyPair::generate()?;
        Ok::<_, Error>(Pair { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
    };
    make().map_err(|error| format!("no {} certificate could be issued: {error}", wanted.leaf.as_str()))
}

/// True when it is time for another authority.
pub(super) fn authority_ends(until: Timestamp, now: Timestamp) -> bool {
    until.duration_since(now) < AUTHORITY / 5
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn usages(leaf: Leaf) -> Vec<ExtendedKeyUsagePurpose> {
    match leaf {
        Leaf::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Leaf::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        // A member shows it when it is called and when it calls.
        Leaf::Peer => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn time<T: From<SystemTime>>(at: Timestamp) -> T {
    SystemTime::from(at).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Tls;
    use crate::render::Names;

    fn wanted(leaf: Leaf) -> Wanted {
        let names = Names { cluster: "db".into(), namespace: "shop".into() };
        Wanted::of(leaf, &names, &Tls::default())
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn what_an_authority_signed_bears_its_name_and_ends_when_it_was_asked_to() {
        let signer = authority("db-client-ca-x2", now()).unwrap();
        let shown = first(leaf(&signer, &wanted(Leaf::Server), now()).unwrap().certificate.as_bytes()).unwrap();
        assert_eq!((shown.subject.as_str(), shown.issuer.as_str()), ("CN=db-server", "CN=db-client-ca-x2"));
        assert_eq!(shown.until, now() + SignedDuration::from_hours(90 * 24));
        assert_eq!(first(signer.certificate.as_bytes()).unwrap().subject, shown.issuer);
    }

    #[test]
    fn nothing_outlives_the_authority_that_signed_it() {
        let signer = authority("db-peer-ca-x2", now()).unwrap();
        let end = first(signer.certificate.as_bytes()).unwrap().until;
        let late = end - SignedDuration::from_hours(1);
        let shown = first(leaf(&signer, &wanted(Leaf::Peer), late).unwrap().certificate.as_bytes()).unwrap();
        assert_eq!(shown.until, end);
        assert!(authority_ends(end, late) && !authority_ends(end, now()));
    }

    #[test]
    fn an_authority_of_somebody_else_does_not_sign() {
        let key = KeyPair::generate().unwrap();
        let mut params = authority_params("theirs");
        params.distinguished_name.push(DnType::OrganizationName, "somebody");
        let theirs = Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
        assert!(leaf(&theirs, &wanted(Leaf::Client), now()).err().unwrap().contains("not an authority of this operator"));
    }
}
