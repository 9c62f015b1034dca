//! EtcdMember: one member, its pod and its volume. Written by the operator only.
//!
//! *Invariant*: the object is created before the member is added to the store and removed after everything of it is
//! gone, so a crash of the operator at any point leaves something to go on from.

#![allow(clippy::duplicated_attributes, reason = "each printer column has a type of its own, often the same")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One member of an EtcdCluster. Written by the operator: change the EtcdCluster instead.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "keelson.dev",
    version = "v1alpha1",
    kind = "EtcdMember",
    plural = "etcdmembers",
    namespaced,
    doc = "One member of an EtcdCluster. Written by the operator: change the EtcdCluster instead.",
    status = "EtcdMemberStatus",
    derive = "PartialEq",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "ID", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "Origin", type_ = "string", json_path = ".spec.origin"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("an EtcdMember is written by the operator and does not change: change the EtcdCluster instead"))]
pub struct EtcdMemberSpec {
    /// The EtcdCluster in the same namespace.
    pub cluster: String,
    /// The `initial-cluster-token` of the store this member belongs to.
    pub cluster_token: String,
    pub origin: Origin,
}

/// How a member came to be, which decides what its first pod may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Origin {
    /// The first member: the only one that may ever found a store.
    Seed,
    /// Added to a running store as a learner.
    Added,
    /// Found as a volume with data: it only ever continues.
    Adopted,
}

/// What the operator remembers of a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdMemberStatus {
    /// The id of the member in the store, in hexadecimal. Once written it never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The id of that store, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The UID of the volume claim that was made for this member. Another claim of the same name is not its volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_uid: Option<String>,
    /// The members that a joining member is told of, from the store's own list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_cluster: Option<String>,
}
