//! What is reported: what is being done, what blocks it, and how each member is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Target;

/// What was seen last, what is being done, and what blocks it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClusterStatus {
    /// The generation of the spec that was read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Voting members; what `kubectl scale` reads.
    #[serde(default)]
    pub replicas: i32,
    /// A label selector for the members' pods; what autoscalers read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The id of the store, in hexadecimal, from the moment it was founded.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clusterID")]
    pub cluster_id: Option<String>,
    /// The `initial-cluster-token` of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_token: Option<String>,
    /// What the cluster is being brought to. A change of the spec is taken over when this is reached, or cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The last target that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
    /// What is happening; absent when there is nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<Quorum>,
    /// The URL of the Service for clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Until when each certificate is good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateState>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Identifies a target that was reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    pub replicas: i32,
    /// The digest of its template.
    pub digest: String,
}

/// One course of action, from its intent to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    #[serde(rename = "type")]
    pub type_: OperationType,
    /// What is being done right now, and why.
    pub step: String,
    /// The member it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    pub started_at: Time,
    /// When it is reported as stuck. It goes on as soon as it can even then; a change of the spec is taken over.
    pub deadline: Time,
    /// What it waits for; absent while it advances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OperationType {
    /// Objects around the members are brought in step.
    Configure,
    /// The first member founds the store.
    Bootstrap,
    /// Volumes that are there already are taken over.
    Adopt,
    ScaleUp,
    ScaleDown,
    /// A member whose data is lost is removed, to be added anew.
    Replace,
    /// A member that stopped is started again on its own volume.
    Restart,
    /// Pods are renewed one at a time.
    Roll,
    /// Certificates are issued, or asked of cert-manager.
    Certify,
    /// The authority that signs certificates is replaced: both are trusted, then the new one signs, then the old one is dropped.
    RotateCA,
    /// What is left of members that were removed is cleaned up.
    CleanUp,
    Delete,
    /// There is no majority: nothing can be decided until members come back.
    AwaitQuorum,
    /// Something contradicts itself and a person has to look.
    Frozen,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateState {
    /// The Secret it is in.
    pub secret: String,
    /// When it ends.
    pub not_after: Time,
}

/// One member, as the store and Kubernetes see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberState {
    pub name: String,
    /// In hexadecimal; absent until it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "podUID")]
    pub pod_uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    pub voter: bool,
    /// Answers, knows a leader, and has applied what the leader has.
    pub healthy: bool,
    /// The version the member reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Entries behind the leader, rounded down to a power of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_lag: Option<i64>,
    /// Bytes on disk, rounded down to a sixteenth of the power of two below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_size: Option<i64>,
    /// Bytes in use of those, rounded likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Since when the only node that can reach its volume has been gone or out of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_unreachable_since: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    Leader,
    Follower,
    Learner,
}

/// Whether a majority of voters is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Quorum {
    pub voters: i32,
    pub healthy: i32,
    pub needed: i32,
}
