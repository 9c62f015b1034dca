//! The objects around a cluster, as they should be: pure functions from the custom resources.
//!
//! Everything here is applied by server-side apply under one field owner, so what somebody else adds stays.

mod budget;
mod certificates;
mod flags;
mod names;
mod pod;
mod services;
mod volume;

pub use budget::budget;
pub use certificates::{authority, certificate, request, requests};
pub use flags::founds;
pub use names::{CLIENT_PORT, Family, METRICS_PORT, Names, PEER_PORT, Scheme, random_name, random_token};
pub use pod::{Made, pod};
pub use services::{client_service, connection, peer_service};
pub use volume::{claim, member};

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use crate::api::{EtcdCluster, label};

/// The labels of everything that belongs to a cluster.
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    let pairs = [
        (label::APP, label::APP_NAME),
        (label::INSTANCE, cluster),
        (label::MANAGED_BY, crate::api::FIELD_OWNER),
        (label::CLUSTER, cluster),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// The owner that takes `object` with it when it goes.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    object.controller_owner_ref(&()).unwrap_or_default()
}

/// Metadata of an object that goes with the cluster.
fn owned(cluster: &EtcdCluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: cluster.metadata.namespace.clone(),
        labels: Some(labels(cluster.metadata.name.as_deref().unwrap_or_default())),
        owner_references: Some(vec![owner(cluster)]),
        ..ObjectMeta::default()
    }
}
