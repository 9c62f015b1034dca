//! The Services by which members and clients find the members, and the Secret with what clients need.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{CLIENT_PORT, METRICS_PORT, Names, PEER_PORT, Scheme};
use super::owned;
use crate::api::{EtcdCluster, annotation, digest, label};

/// Gives every member a name that follows its pod, whether the pod is ready or not: members need each other to become ready.
pub fn peer_service(cluster: &EtcdCluster, names: &Names) -> Service {
    let spec = ServiceSpec {
        cluster_ip: Some("None".into()),
        publish_not_ready_addresses: Some(true),
        ports: Some(vec![port("client", CLIENT_PORT), port("peer", PEER_PORT), port("metrics", METRICS_PORT)]),
        selector: Some(BTreeMap::from([(label::CLUSTER.to_string(), names.cluster.clone())])),
        ..ServiceSpec::default()
    };
    stamped(Service { metadata: owned(cluster, names.peers()), spec: Some(spec), status: None })
}

/// Leads clients to voters only: learners answer next to nothing, and one that is about to be removed gets no new clients.
pub fn client_service(cluster: &EtcdCluster, names: &Names) -> Service {
    let wanted = &cluster.spec.services.client;
    let voters = [(label::CLUSTER, names.cluster.as_str()), (label::ROLE, label::ROLE_VOTER)];
    let spec = ServiceSpec {
        type_: Some(wanted.type_.as_str().into()),
        ports: Some(vec![port("client", CLIENT_PORT)]),
        selector: Some(voters.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()),
        ..ServiceSpec::default()
    };
    let mut metadata = owned(cluster, names.cluster.clone());
    metadata.annotations = Some(wanted.annotations.clone());
    stamped(Service { metadata, spec: Some(spec), status: None })
}

/// What kube-apiserver's `--etcd-servers`, `--etcd-cafile`, `--etcd-certfile` and `--etcd-keyfile` need. `certificates`
/// are the `ca.crt`, `tls.crt` and `tls.key` a client shows; none for a cluster in plain text.
pub fn connection(cluster: &EtcdCluster, names: &Names, certificates: BTreeMap<String, ByteString>) -> Secret {
    let tls = cluster.spec.tls.as_ref().is_some_and(|tls| tls.client.is_some());
    let mut data = certificates;
    data.insert("endpoints".into(), ByteString(names.endpoint(Scheme::of(tls)).into_bytes()));
    let mut secret = Secret {
        metadata: owned(cluster, names.connection()),
        type_: Some("Opaque".into()),
        data: Some(data),
        ..Secret::default()
    };
    let stamp = digest(&serde_json::to_string(&secret).unwrap_or_default());
    secret.metadata.annotations.get_or_insert_default().insert(annotation::APPLIED.into(), stamp);
    secret
}

fn port(name: &str, port: i32) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port,
        target_port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}

/// A digest of what is applied shows at the next look whether it would be different now, also where something is left out.
fn stamped(mut service: Service) -> Service {
    let stamp = digest(&serde_json::to_string(&service).unwrap_or_default());
    service.metadata.annotations.get_or_insert_default().insert(annotation::APPLIED.into(), stamp);
    service
}
