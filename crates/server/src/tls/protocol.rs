//! Versions and cipher suites, by the names that etcd's flags have.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

/// What is spoken. Suites are chosen for TLS 1.2 only; those of TLS 1.3 are all good.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Versions, newest first.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Ciphers and all else that is computed.
    pub provider: Arc<CryptoProvider>,
}

/// Suites that Go knows and that this server will not speak: they are broken, or give up on forward secrecy.
const OTHERS: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

fn version(text: &str) -> Result<Option<u8>, String> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(2)),
        "TLS1.3" => Ok(Some(3)),
        _ => Err(format!("unexpected TLS version {text:?} (must be one of: TLS1.2, TLS1.3)")),
    }
}

fn suite(name: &str) -> Option<CipherSuite> {
    Some(match name {
        "TLS_AES_128_GCM_SHA256" => CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_256_GCM_SHA384" => CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_CHACHA20_POLY1305_SHA256" => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" | "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => {
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
        _ => return None,
    })
}

impl Protocol {
    /// From the values of `--tls-min-version`, `--tls-max-version` and `--cipher-suites`; with what the user should know
    /// of suites that are left out.
    pub fn new(min: &str, max: &str, suites: &[String]) -> Result<(Self, Option<String>), String> {
        let (from, to) = (version(min)?.unwrap_or(2), version(max)?.unwrap_or(3));
        if from > to {
            return Err(format!("min version ({min}) is greater than max version ({max})"));
        }
        if from == 3 && !suites.is_empty() {
            return Err("cipher suites cannot be configured when only TLS1.3 is enabled".into());
        }
        let mut chosen = Vec::new();
        let mut left_out = Vec::new();
        for name in suites {
            match suite(name) {
                Some(known) => chosen.push(known),
                None if OTHERS.contains(&name.as_str()) => left_out.push(name.as_str()),
                None => return Err(format!("unexpected TLS cipher suite {name:?}")),
            }
        }
        let mut provider = ring::default_provider();
        if !suites.is_empty() {
            provider.cipher_suites.retain(|s| matches!(s, SupportedCipherSuite::Tls13(_)) || chosen.contains(&s.suite()));
        }
        let has_older = provider.cipher_suites.iter().any(|s| matches!(s, SupportedCipherSuite::Tls12(_)));
        if !has_older && to == 2 {
            return Err(format!(
                "--cipher-suites leaves nothing to speak TLS1.2 with: {} are not supported",
                left_out.join(", ")
            ));
        }
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        if to == 3 {
            versions.push(&TLS13);
        }
        if from == 2 && has_older {
            versions.push(&TLS12);
        }
        let note =
            (!left_out.is_empty()).then(|| format!("--cipher-suites: not supported and left out: {}", left_out.join(", ")));
        Ok((Self { versions, provider: Arc::new(provider) }, note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(min: &str, max: &str, suites: &[&str]) -> Result<(Protocol, Option<String>), String> {
        let suites: Vec<String> = suites.iter().map(ToString::to_string).collect();
        Protocol::new(min, max, &suites)
    }

    #[test]
    fn versions_and_suites_have_etcds_names_and_checks() {
        assert_eq!(new("TLS1.2", "", &[]).unwrap().0.versions.len(), 2);
        assert_eq!(new("TLS1.3", "", &[]).unwrap().0.versions, [&TLS13]);
        assert_eq!(new("", "TLS1.2", &[]).unwrap().0.versions, [&TLS12]);
        assert!(new("TLS1.1", "", &[]).unwrap_err().contains("must be one of"));
        assert!(new("TLS1.3", "TLS1.2", &[]).unwrap_err().contains("greater than max"));
        assert!(new("TLS1.3", "", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).unwrap_err().contains("only TLS1.3"));
        assert!(new("TLS1.2", "", &["TLS_MADE_UP"]).unwrap_err().contains("TLS_MADE_UP"));
    }

    #[test]
    fn suites_that_are_too_weak_are_left_out_and_told() {
        let weak = "TLS_RSA_WITH_AES_128_CBC_SHA";
        let (protocol, note) = new("TLS1.2", "", &[weak, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).unwrap();
        let of_12 = protocol.provider.cipher_suites.iter().filter(|s| matches!(s, SupportedCipherSuite::Tls12(_)));
        assert_eq!((of_12.count(), protocol.versions.len()), (1, 2));
        assert!(note.unwrap().contains(weak));
        assert_eq!(new("TLS1.2", "", &[weak]).unwrap().0.versions, [&TLS13]);
        assert!(new("TLS1.2", "TLS1.2", &[weak]).unwrap_err().contains(weak));
    }
}
