//! An authority for one test: what it signs lies in a folder, as files that servers and clients are pointed to.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// The authority and its folder.
pub struct Pki {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("dir", &self.dir.path()).finish_non_exhaustive()
    }
}

/// A certificate to be signed.
pub struct Wanted<'a> {
    /// Its common name.
    pub name: &'a str,
    /// Names and addresses that it is for.
    pub hosts: &'a [&'a str],
    /// It is no longer good.
    pub has_expired: bool,
    pub serial: u64,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { name: "e2e", hosts: &["127.0.0.1", "localhost"], has_expired: false, serial: 1000 }
    }
}

impl Pki {
    /// An authority with certificates for a server, for a member and for a client.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("e2e authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let pki = Self { dir: TempDir::with_prefix("keelson-e2e-pki-")?, issuer };
        pki.write("ca.crt", pki.issuer.pem().as_bytes())?;
        pki.issue("server", &Wanted { name: "server", serial: 1, ..Wanted::default() })?;
        pki.issue("peer", &Wanted { name: "peer", serial: 2, ..Wanted::default() })?;
        pki.issue("client", &Wanted { name: "client", hosts: &[], serial: 3, ..Wanted::default() })?;
        Ok(pki)
    }

    /// Where a file of the folder is, such as `client.key`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Replaces a file as a whole, as those do who renew certificates.
    pub fn write(&self, file: &str, contents: &[u8]) -> Result<()> {
        let new = self.path(&format!("{file}.new"));
        fs::write(&new, contents)?;
        fs::rename(new, self.path(file)).context("replacing a file")
    }

    /// Signs a certificate and writes it and its key, as `NAME.crt` and `NAME.key`.
    pub fn issue(&self, file: &str, wanted: &Wanted<'_>) -> Result<()> {
        let hosts: Vec<String> = wanted.hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = named(wanted.name);
        params.serial_number = Some(SerialNumber::from(wanted.serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if wanted.has_expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        self.write(&format!("{file}.key"), key.serialize_pem().as_bytes())?;
        self.write(&format!("{file}.crt"), certificate.pem().as_bytes())
    }

    /// Writes the list of certificates that were taken back, as `crl.der`.
    pub fn revoke(&self, serials: &[u64]) -> Result<()> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 2),
            next_update: date_time_ymd(4096, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer)?;
        self.write("crl.der", list.der())
    }

    /// Flags of a server that shows these certificates and demands them, on both of its ports.
    pub fn flags(&self) -> Vec<String> {
        let file = |flag: &str, file: &str| format!("--{flag}={}", self.path(file).display());
        vec![
            file("cert-file", "server.crt"),
            file("key-file", "server.key"),
            file("trusted-ca-file", "ca.crt"),
            "--client-cert-auth=true".to_owned(),
            file("peer-cert-file", "peer.crt"),
            file("peer-key-file", "peer.key"),
            file("peer-trusted-ca-file", "ca.crt"),
            "--peer-client-cert-auth=true".to_owned(),
        ]
    }

    /// A client that trusts this authority, and shows one of its certificates.
    pub fn trusting(&self, shown: Option<&str>) -> Result<ClientTlsConfig> {
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(self.path("ca.crt"))?));
        let Some(shown) = shown else { return Ok(config) };
        let (cert, key) = (fs::read(self.path(&format!("{shown}.crt")))?, fs::read(self.path(&format!("{shown}.key")))?);
        Ok(config.identity(Identity::from_pem(cert, key)))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
