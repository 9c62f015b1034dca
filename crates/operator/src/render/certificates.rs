//! The Secrets of authorities and certificates, and the objects that ask cert-manager for certificates.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use super::names::Names;
use super::owned;
use crate::api::{EtcdCluster, IssuerRef, Leaf, Side, annotation, digest};
use crate::pki::Wanted;

/// A certificate with its key, where pods mount it. `stamp` tells what was asked of it.
///
/// When it was written is noted, too: clients have to take it over, and are given time from then on.
pub fn certificate(
    cluster: &EtcdCluster,
    names: &Names,
    leaf: Leaf,
    files: BTreeMap<String, ByteString>,
    stamp: &str,
    now: Timestamp,
) -> Secret {
    let mut metadata = owned(cluster, names.certificate(leaf));
    let notes = [(annotation::APPLIED, stamp.to_string()), (annotation::SINCE, now.to_string())];
    metadata.annotations = Some(notes.map(|(key, value)| (key.to_string(), value)).into());
    Secret { metadata, type_: Some("kubernetes.io/tls".into()), data: Some(files), ..Secret::default() }
}

/// An authority with its key, which nobody mounts.
pub fn authority(
    cluster: &EtcdCluster,
    names: &Names,
    side: Side,
    files: BTreeMap<String, ByteString>,
    rotated_for: &str,
    now: Timestamp,
) -> Secret {
    let mut metadata = owned(cluster, names.authority(side));
    let notes = [(annotation::ROTATED, rotated_for.to_string()), (annotation::SINCE, now.to_string())];
    metadata.annotations = Some(notes.map(|(key, value)| (key.to_string(), value)).into());
    Secret { metadata, type_: Some("Opaque".into()), data: Some(files), ..Secret::default() }
}

/// What cert-manager's objects are called in the API.
pub fn requests() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"))
}

/// Asks cert-manager for a certificate, to be put where the operator would put one of its own.
pub fn request(cluster: &EtcdCluster, names: &Names, issuer: &IssuerRef, wanted: &Wanted) -> DynamicObject {
    let name = names.certificate(wanted.leaf);
    let (addresses, hosts): (Vec<&String>, Vec<&String>) =
        wanted.hosts.iter().partition(|host| host.parse::<std::net::IpAddr>().is_ok());
    let usages = match wanted.leaf {
        Leaf::Server => vec!["digital signature", "key encipherment", "server auth"],
        Leaf::Client => vec!["digital signature", "key encipherment", "client auth"],
        Leaf::Peer => vec!["digital signature", "key encipherment", "server auth", "client auth"],
    };
    let spec = json!({
        "secretName": name,
        "commonName": wanted.name,
        "dnsNames": hosts,
        "ipAddresses": addresses,
        "usages": usages,
        "duration": wanted.rotation.validity,
        "renewBefore": wanted.rotation.renew_before,
        "privateKey": { "algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always" },
        "issuerRef": { "name": issuer.name, "kind": issuer.kind, "group": issuer.group },
    });
    let mut request = DynamicObject::new(&name, &requests());
    let stamp = digest(&spec.to_string());
    request.metadata = owned(cluster, name);
    request.metadata.annotations = Some(BTreeMap::from([(annotation::APPLIED.to_string(), stamp)]));
    request.data(json!({ "spec": spec }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Tls;

    #[test]
    fn cert_manager_is_asked_for_what_the_operator_would_issue() {
        let names = Names { cluster: "db".into(), namespace: "shop".into() };
        let issuer = IssuerRef { name: "ca".into(), kind: "ClusterIssuer".into(), group: "cert-manager.io".into() };
        let wanted = Wanted::of(Leaf::Server, &names, &Tls::default());
        let asked = request(&EtcdCluster::new("db", Default::default()), &names, &issuer, &wanted);
        let json = serde_json::to_value(&asked).unwrap();
        assert_eq!((&json["apiVersion"], &json["kind"]), (&json!("cert-manager.io/v1"), &json!("Certificate")));
        assert_eq!((&json["metadata"]["name"], &json["spec"]["secretName"]), (&json!("db-server-tls"), &json!("db-server-tls")));
        assert_eq!(json["spec"]["ipAddresses"], json!(["127.0.0.1", "::1"]));
        let hosts = json["spec"]["dnsNames"].as_array().unwrap();
        assert!(hosts.contains(&json!("*.db-peers.shop.svc")) && hosts.contains(&json!("db.shop.svc")), "{hosts:?}");
        assert_eq!((&json["spec"]["duration"], &json["spec"]["renewBefore"]), (&json!("2160h"), &json!("720h")));
    }
}
