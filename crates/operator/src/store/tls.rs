//! The certificates the operator shows to members, as they are in the Secrets right now.

use std::collections::BTreeMap;
use std::error::Error;

use k8s_openapi::ByteString;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

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
        let found = Self(found);
        found.are_readable()?;
        Ok(found)
    }

    /// Whether connections can be made with them at all.
    fn are_readable(&self) -> Result<(), String> {
        let endpoint = Endpoint::from_static("https://member").tls_config(self.config("member"));
        let words = |error: tonic::transport::Error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("ca.crt, tls.crt or tls.key is not what it should be in PEM{cause}")
        };
        endpoint.map(|_| ()).map_err(words)
    }

    pub fn config(&self, host: &str) -> ClientTlsConfig {
        let pem = |key: &str| self.0.get(key).map(|value| value.0.clone()).unwrap_or_default();
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pem("ca.crt")))
            .identity(Identity::from_pem(pem("tls.crt"), pem("tls.key")))
            .domain_name(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(contents: &str) -> BTreeMap<String, ByteString> {
        Certificates::KEYS.map(|key| (key.to_string(), ByteString(contents.into()))).into()
    }

    #[test]
    fn what_cannot_be_used_is_told_before_anybody_is_asked() {
        let refused = |files: &BTreeMap<String, ByteString>| Certificates::of(files, files).expect_err("nothing to connect with");
        let mut lacking = files("");
        lacking.remove("tls.key");
        assert_eq!(refused(&lacking), "it has no tls.key");
        assert!(refused(&files("not a certificate")).contains("in PEM"));
    }
}
