//! Certificates, given as Secrets that somebody else (for example cert-manager) writes and renews.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Certificates for members and clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Between clients and members; both sides show a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientTls>,
    /// Between members; both sides show a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerTls>,
}

/// Certificates on the client port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// What members show: a Secret with `tls.crt`, `tls.key` and `ca.crt`. The certificate must cover
    /// `*.<name>-peers.<namespace>.svc` and `<name>.<namespace>.svc`; clients must be signed by `ca.crt`.
    pub secret_ref: SecretRef,
    /// What the operator shows, and what goes into the connection Secret: a Secret with `tls.crt` and `tls.key`
    /// for client authentication. `secretRef` itself without it, whose certificate must then allow both uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretRef>,
}

/// Certificates on the peer port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerTls {
    /// A Secret with `tls.crt`, `tls.key` and `ca.crt`. The certificate must cover `*.<name>-peers.<namespace>.svc`
    /// and allow both server and client authentication.
    pub secret_ref: SecretRef,
}

/// A Secret of the cluster's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Its name.
    #[x_kube(validation = Rule::new("self != ''").message("secretRef.name is empty: name the Secret that holds tls.crt, tls.key and ca.crt"))]
    pub name: String,
}

impl Tls {
    /// The Secret whose certificate a client of the cluster shows.
    pub fn client_certificate(&self) -> Option<&SecretRef> {
        let client = self.client.as_ref()?;
        Some(client.client_secret_ref.as_ref().unwrap_or(&client.secret_ref))
    }
}
