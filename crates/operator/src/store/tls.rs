//! The certificates the operator shows to members, as they are in the Secrets right now.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// `ca.crt`, `tls.crt` and `tls.key` of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates(pub BTreeMap<String, ByteString>);

impl Certificates {
    const KEYS: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

    /// From the members' Secret (whose authority signed everything) and the client's.
    pub fn of(members: &BTreeMap<String, ByteString>, client: &BTreeMap<String, ByteString>) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        for key in Self::KEYS {
            let source = if key == "ca.crt" { members } else { client };
            let Some(value) = source.get(key) else {
                return Err(format!("it has no {key}"));
            };
            found.insert(key.to_string(), value.clone());
        }
        Ok(Self(found))
    }

    pub fn config(&self, host: &str) -> ClientTlsConfig {
        let pem = |key: &str| self.0.get(key).map(|value| value.0.clone()).unwrap_or_default();
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pem("ca.crt")))
            .identity(Identity::from_pem(pem("tls.crt"), pem("tls.key")))
            .domain_name(host)
    }
}
