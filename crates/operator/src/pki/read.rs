//! Certificates in PEM form, as far as this operator needs to know what is in them.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// What a certificate shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Distinguished names, as RFC 4514 writes them.
    pub subject: String,
    pub issuer: String,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// All certificates of a file, the first one first.
pub fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    chain.map_err(|error| format!("it is not PEM: {error}"))
}

/// The first certificate of a file.
pub fn first(pem: &[u8]) -> Result<Shown, String> {
    let chain = chain(pem)?;
    Shown::of(chain.first().ok_or("it has no certificate in PEM form")?)
}

impl Shown {
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let read = Certificate::from_der(der).map_err(|error| format!("its certificate cannot be read: {error}"))?;
        let read = read.tbs_certificate();
        let time = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            // Some write the end of all times for certificates that never end.
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        };
        let validity = read.validity();
        Ok(Self {
            subject: read.subject().to_string(),
            issuer: read.issuer().to_string(),
            from: time(validity.not_before),
            until: time(validity.not_after),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        assert!(first(b"").unwrap_err().contains("no certificate"));
        assert!(first(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap_err().contains("cannot be read"));
    }
}
