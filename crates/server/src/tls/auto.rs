//! Certificates that the server makes for itself (`--auto-tls`, `--peer-auto-tls`), signed by nobody else. They are
//! kept beside the data, so that clients that remember them find them again.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use crate::config::{Named, Pair};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The certificate in `folder`, made for these hosts if there is none yet.
pub fn make_missing(flag: &str, folder: &Path, hosts: Vec<String>, years: u32) -> Result<Pair, String> {
    let named = |file: &str| Named { flag: flag.to_owned(), path: folder.join(file) };
    let pair = Pair { cert: named("cert.pem"), key: named("key.pem") };
    if !(pair.cert.path.exists() && pair.key.path.exists()) {
        let (cert, key) = make(hosts, years).map_err(|e| format!("{flag}: no certificate could be made: {e}"))?;
        let written = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .and_then(|()| write(&pair.key.path, &key))
            .and_then(|()| write(&pair.cert.path, &cert));
        written.map_err(|e| format!("{flag}: {} cannot be written: {e}", folder.display()))?;
        tracing::warn!(folder = folder.display().to_string(), years, "made a certificate for this server; nobody vouches for it");
    }
    Ok(pair)
}

fn make(hosts: Vec<String>, years: u32) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "keelson");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = SystemTime::now().into();
    params.not_after = (SystemTime::now() + YEAR * years).into();
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_only_its_owner_may_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let make = || {
            let hosts = vec!["127.0.0.1".into(), "localhost".into()];
            make_missing("--auto-tls", &folder.path().join("client"), hosts, 1).unwrap()
        };
        let pair = make();
        let key = fs::read(&pair.key.path).unwrap();
        assert_eq!(fs::metadata(&pair.key.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(super::super::load::pair(&pair, &ring::default_provider()).is_ok());
        assert_eq!(fs::read(make().key.path).unwrap(), key);
    }
}
