//! Certificates: issued by the operator itself, asked of cert-manager, or given as Secrets that somebody else writes and renews.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rotation;

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

/// Certificates on the client port: exactly one of `auto`, `certManager` and `secretRef`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.auto), has(self.certManager), has(self.secretRef)].filter(set, set).size() == 1")
        .message("tls.client needs exactly one of auto (the operator issues certificates), certManager and secretRef"),
    validation = Rule::new("has(self.auto) == has(oldSelf.auto) && has(self.certManager) == has(oldSelf.certManager)")
        .message("tls.client cannot go from one of auto, certManager and secretRef to another: members and clients would trust different authorities meanwhile. Create another cluster with the setting you want and move the data"),
    validation = Rule::new("!has(self.certManager) || !has(oldSelf.certManager) || self.certManager == oldSelf.certManager")
        .message("tls.client.certManager.issuerRef cannot be changed: members and clients would trust different authorities meanwhile. Create another cluster with the issuer you want and move the data"),
    validation = Rule::new("has(self.secretRef) || !has(self.clientSecretRef)")
        .message("tls.client.clientSecretRef stands beside secretRef only: with auto and certManager clients get a certificate of their own"),
    validation = Rule::new("!has(self.secretRef) || !(has(self.rotation) || has(self.hosts))")
        .message("tls.client.rotation and tls.client.hosts go with auto and certManager: who writes the Secret of secretRef decides on both"),
)]
pub struct ClientTls {
    /// The operator keeps an authority of its own for this cluster, issues certificates and renews them. Write `auto: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
    /// The operator asks cert-manager for certificates, which it renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
    /// What members show: a Secret with `tls.crt`, `tls.key` and `ca.crt`. The certificate must cover
    /// `*.<name>-peers.<namespace>.svc` and `<name>.<namespace>.svc`; clients must be signed by `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// What the operator shows, and what goes into the connection Secret: a Secret with `tls.crt` and `tls.key`
    /// for client authentication. `secretRef` itself without it, whose certificate must then allow both uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretRef>,
    /// Whether clients have to show a certificate; they do unless this is false. Without one, everybody who reaches the port is let in.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub client_auth: bool,
    /// More names and addresses that the members' certificate is for, such as that of a load balancer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[x_kube(validation = Rule::new("self.all(host, host.matches('^[*]?[0-9A-Za-z.:-]{1,253}$'))").message("tls.client.hosts are names such as etcd.example.com, or addresses"))]
    pub hosts: Vec<String>,
    /// For how long certificates are good, and when they are renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// Certificates on the peer port: exactly one of `auto`, `certManager` and `secretRef`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.auto), has(self.certManager), has(self.secretRef)].filter(set, set).size() == 1")
        .message("tls.peer needs exactly one of auto (the operator issues certificates), certManager and secretRef"),
    validation = Rule::new("has(self.auto) == has(oldSelf.auto) && has(self.certManager) == has(oldSelf.certManager)")
        .message("tls.peer cannot go from one of auto, certManager and secretRef to another: members would trust different authorities meanwhile. Create another cluster with the setting you want and move the data"),
    validation = Rule::new("!has(self.certManager) || !has(oldSelf.certManager) || self.certManager == oldSelf.certManager")
        .message("tls.peer.certManager.issuerRef cannot be changed: members would trust different authorities meanwhile. Create another cluster with the issuer you want and move the data"),
    validation = Rule::new("!has(self.secretRef) || !has(self.rotation)")
        .message("tls.peer.rotation goes with auto and certManager: who writes the Secret of secretRef decides on it"),
)]
pub struct PeerTls {
    /// The operator keeps an authority of its own for this cluster, issues certificates and renews them. Write `auto: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
    /// The operator asks cert-manager for certificates, which it renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
    /// A Secret with `tls.crt`, `tls.key` and `ca.crt`. The certificate must cover `*.<name>-peers.<namespace>.svc`
    /// and allow both server and client authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// For how long certificates are good, and when they are renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// Certificates that the operator issues itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Auto {}

/// Certificates that cert-manager issues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManager {
    /// Who signs. It must tell its own certificate (`ca.crt` in the Secrets), as CA and Vault issuers do and ACME issuers do not.
    pub issuer_ref: IssuerRef,
}

/// An issuer of cert-manager.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new("self != ''").message("issuerRef.name is empty: name the Issuer or ClusterIssuer that signs"))]
    pub name: String,
    /// Issuer, ClusterIssuer, or a kind of the group.
    #[serde(default = "issuer")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The API group of the kind.
    #[serde(default = "cert_manager")]
    #[schemars(length(max = 253))]
    pub group: String,
}

/// A Secret of the cluster's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Its name.
    #[x_kube(validation = Rule::new("self != ''").message("secretRef.name is empty: name the Secret that holds tls.crt, tls.key and ca.crt"))]
    pub name: String,
}

/// A port, whose two ends trust one authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    Client,
    Peer,
}

impl Side {
    pub const ALL: [Side; 2] = [Side::Client, Side::Peer];

    /// One word, as in the spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Peer => "peer",
        }
    }

    /// What its authority signs.
    pub fn leaves(self) -> &'static [Leaf] {
        match self {
            Side::Client => &[Leaf::Server, Leaf::Client],
            Side::Peer => &[Leaf::Peer],
        }
    }
}

/// A certificate that a cluster uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leaf {
    /// What members show to clients.
    Server,
    /// What the operator and other clients show.
    Client,
    /// What members show to each other.
    Peer,
}

impl Leaf {
    pub fn side(self) -> Side {
        match self {
            Leaf::Server | Leaf::Client => Side::Client,
            Leaf::Peer => Side::Peer,
        }
    }

    /// The Secret with one that the operator issues or asks cert-manager for.
    pub fn secret(self, cluster: &str) -> String {
        format!("{cluster}-{}-tls", self.as_str())
    }

    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Leaf::Server => "server",
            Leaf::Client => "client",
            Leaf::Peer => "peer",
        }
    }
}

/// Where the certificates of a side come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source<'a> {
    Auto,
    CertManager(&'a IssuerRef),
    Given,
}

impl Source<'_> {
    fn of<'a>(cert_manager: Option<&'a CertManager>, secret_ref: Option<&SecretRef>) -> Source<'a> {
        match (secret_ref, cert_manager) {
            (Some(_), _) => Source::Given,
            (None, Some(asked)) => Source::CertManager(&asked.issuer_ref),
            (None, None) => Source::Auto,
        }
    }
}

impl Default for ClientTls {
    fn default() -> Self {
        let (auto, cert_manager, secret_ref, client_secret_ref, rotation) = Default::default();
        Self { auto, cert_manager, secret_ref, client_secret_ref, client_auth: true, hosts: Vec::new(), rotation }
    }
}

impl Tls {
    /// Where the certificates of that side come from; `None` in plain text.
    pub fn source(&self, side: Side) -> Option<Source<'_>> {
        match side {
            Side::Client => {
                self.client.as_ref().map(|client| Source::of(client.cert_manager.as_ref(), client.secret_ref.as_ref()))
            }
            Side::Peer => self.peer.as_ref().map(|peer| Source::of(peer.cert_manager.as_ref(), peer.secret_ref.as_ref())),
        }
    }

    /// The Secret with a certificate; `None` where the port is in plain text.
    pub fn secret(&self, leaf: Leaf, cluster: &str) -> Option<String> {
        let given = match leaf {
            Leaf::Server => &self.client.as_ref()?.secret_ref,
            Leaf::Client => {
                let client = self.client.as_ref()?;
                if client.client_secret_ref.is_some() { &client.client_secret_ref } else { &client.secret_ref }
            }
            Leaf::Peer => &self.peer.as_ref()?.secret_ref,
        };
        Some(given.as_ref().map_or_else(|| leaf.secret(cluster), |given| given.name.clone()))
    }

    /// How long certificates of that side are good.
    pub fn rotation(&self, side: Side) -> Rotation {
        let asked = match side {
            Side::Client => self.client.as_ref().and_then(|client| client.rotation.clone()),
            Side::Peer => self.peer.as_ref().and_then(|peer| peer.rotation.clone()),
        };
        asked.unwrap_or_default()
    }

    /// Whether who connects to that side has to show a certificate.
    pub fn asks(&self, side: Side) -> bool {
        side == Side::Peer || self.client.as_ref().is_some_and(|client| client.client_auth)
    }

    /// The part that pods depend on: what is in the certificates is not.
    pub fn mounted(&self) -> Tls {
        let client = self.client.clone().map(|client| ClientTls { rotation: None, hosts: Vec::new(), ..client });
        let peer = self.peer.clone().map(|peer| PeerTls { rotation: None, ..peer });
        Tls { client, peer }
    }
}

fn yes() -> bool {
    true
}

fn is_yes(set: &bool) -> bool {
    *set
}

fn issuer() -> String {
    "Issuer".into()
}

fn cert_manager() -> String {
    "cert-manager.io".into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tls(spec: serde_json::Value) -> Tls {
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn secrets_are_those_that_are_named_or_bear_the_clusters_name() {
        let given = tls(json!({ "client": { "secretRef": { "name": "members" } } }));
        let named = |tls: &Tls| [Leaf::Server, Leaf::Client, Leaf::Peer].map(|leaf| tls.secret(leaf, "db").unwrap_or_default());
        assert_eq!(named(&given), ["members", "members", ""]);
        let auto = tls(json!({ "client": { "auto": {} }, "peer": { "auto": {} } }));
        assert_eq!(named(&auto), ["db-server-tls", "db-client-tls", "db-peer-tls"]);
        assert_eq!((auto.source(Side::Client), given.source(Side::Client)), (Some(Source::Auto), Some(Source::Given)));
    }

    #[test]
    fn what_was_written_before_there_was_a_choice_is_read_and_written_as_it_was() {
        let spec = json!({ "client": { "secretRef": { "name": "a" }, "clientSecretRef": { "name": "b" } }, "peer": { "secretRef": { "name": "c" } } });
        let text = r#"{"client":{"secretRef":{"name":"a"},"clientSecretRef":{"name":"b"}},"peer":{"secretRef":{"name":"c"}}}"#;
        // Equal text, equal digest: an upgrade of the operator restarts nobody.
        assert_eq!(serde_json::to_string(&tls(spec).mounted()).unwrap(), text);
    }

    #[test]
    fn pods_do_not_depend_on_what_is_in_their_certificates() {
        let plain = tls(json!({ "client": { "auto": {} } }));
        let shorter = tls(json!({ "client": { "auto": {}, "hosts": ["etcd.example.com"], "rotation": { "validity": "24h" } } }));
        assert_eq!(plain.mounted(), shorter.mounted());
        let open = tls(json!({ "client": { "auto": {}, "clientAuth": false } }));
        assert_ne!(plain.mounted(), open.mounted());
    }
}
