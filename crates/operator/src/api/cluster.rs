//! EtcdCluster: what a person asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LocalObjectReference;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ConnectionSecret, DisruptionBudget, EtcdClusterStatus, Healing, Options, PodSettings, Services, Storage, Tls,
    options::extra_args_rule,
};

/// A store that speaks the etcd v3 API, run as a cluster of members.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "keelson.dev",
    version = "v1alpha1",
    kind = "EtcdCluster",
    plural = "etcdclusters",
    shortname = "etcd",
    category = "all",
    namespaced,
    doc = "A store that speaks the etcd v3 API, run as a cluster of members.",
    status = "EtcdClusterStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.quorum.healthy"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.target.version"),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.conditions[?(@.type=='Available')].status"),
    printcolumn(name = "Operation", type_ = "string", json_path = ".status.operation.step"),
    printcolumn(name = "Blocked", type_ = "string", json_path = ".status.operation.blockedBy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40").message(
        "metadata.name is too long: use at most 40 characters, members and services add suffixes to it"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(
        "metadata.name becomes the name of a Service: start with a letter and use only lower-case letters, digits and '-'"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.tls) && has(self.tls.peer)) == (has(oldSelf.tls) && has(oldSelf.tls.peer))")
        .message("tls.peer cannot be switched on or off: members could not reach each other meanwhile. Create another cluster with the setting you want and move the data"),
    validation = Rule::new("(has(self.tls) && has(self.tls.client)) == (has(oldSelf.tls) && has(oldSelf.tls.client))")
        .message("tls.client cannot be switched on or off: clients would lose the members half-way. Create another cluster with the setting you want and move the data"),
)]
pub struct EtcdClusterSpec {
    /// How many voting members to run. Use 1, 3, 5, 7 or 9: an even number costs one more member and survives no more failures.
    #[serde(default = "three")]
    #[x_kube(validation = Rule::new("self >= 1").message("replicas must be at least 1; to stop a cluster and keep its data, delete it with deletionPolicy: Retain and create it again later"))]
    #[x_kube(validation = Rule::new("self <= 9").message("replicas must be at most 9: every write waits for a majority, use 5 for two failures or 7 for three"))]
    pub replicas: i32,

    /// The version to run, which is also the tag of the image. Without it, the operator's default at the time of creation, kept from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]+\\\\.[0-9]+\\\\.[0-9]+(-[0-9A-Za-z.-]+)?$')").message("version must be a full version such as 1.2.3, without a leading v"))]
    pub version: Option<String>,

    /// Where the image comes from.
    #[serde(default)]
    pub image: Image,

    /// Leaves the cluster as it is: nothing is created, changed or healed, only status is reported.
    #[serde(default)]
    pub paused: bool,

    /// What happens to the volumes when this resource is deleted. Retain keeps them; creating it again with the same name adopts them.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// The volume of each member.
    #[serde(default)]
    pub storage: Storage,

    /// Settings of the store itself.
    #[serde(default)]
    pub options: Options,

    /// More command-line flags, by name without dashes: `log-level: debug`. Flags that the operator sets itself are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "extra_args_rule")]
    pub extra_args: BTreeMap<String, String>,

    /// Certificates for members and clients; plain text without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// Where and how the members' pods run.
    #[serde(default)]
    pub pod: PodSettings,

    /// The PodDisruptionBudget that keeps a majority of voters during drains.
    #[serde(default)]
    pub pdb: DisruptionBudget,

    /// The Services in front of the members.
    #[serde(default)]
    pub services: Services,

    /// The Secret `<name>-connection` with what clients need: endpoints and certificates.
    #[serde(default)]
    pub connection_secret: ConnectionSecret,

    /// When a member is given up and replaced.
    #[serde(default)]
    pub healing: Healing,
}

fn three() -> i32 {
    3
}

/// Where the image of the members comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Without tag: the tag is `version`. The operator's default if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Kubernetes' own default if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Secrets of the namespace with credentials for the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<LocalObjectReference>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        }
    }
}

/// What happens to the volumes when the cluster is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The volumes stay, even when the namespace is deleted.
    #[default]
    Retain,
    /// The volumes are deleted, and all data with them.
    Delete,
}
