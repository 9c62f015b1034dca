//! An EtcdMember and the volume claim of its member.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{labels, owned};
use crate::api::{EtcdCluster, EtcdMember, EtcdMemberSpec, Origin, Storage, annotation, label};

pub fn member(cluster: &EtcdCluster, name: &str, token: &str, origin: Origin) -> EtcdMember {
    let mut metadata = owned(cluster, name.to_string());
    metadata.labels.get_or_insert_default().insert(label::MEMBER.into(), name.into());
    let of = cluster.metadata.name.clone().unwrap_or_default();
    EtcdMember { metadata, spec: EtcdMemberSpec { cluster: of, cluster_token: token.into(), origin }, status: None }
}

/// The claim has no owner: nothing that is deleted takes the data along.
pub fn claim(member: &EtcdMember, storage: &Storage) -> PersistentVolumeClaim {
    let name = member.metadata.name.clone().unwrap_or_default();
    let status = member.status.clone().unwrap_or_default();
    let mut labels = labels(&member.spec.cluster);
    labels.insert(label::MEMBER.into(), name.clone());
    let known = [
        (annotation::CLUSTER_TOKEN, Some(member.spec.cluster_token.clone())),
        (annotation::MEMBER_ID, status.id),
        (annotation::CLUSTER_ID, status.cluster_id),
    ];
    let annotations = known.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: member.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_string(), storage.size.clone())])),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: storage.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
