//! Names of the labels and annotations by which objects of a cluster are found and recognised.

/// Labels: what objects are selected by.
pub mod label {
    /// The well-known labels of <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels>.
    pub const APP: &str = "app.kubernetes.io/name";
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    pub const VERSION: &str = "app.kubernetes.io/version";
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The EtcdCluster, on every object around its members.
    pub const CLUSTER: &str = "keelson.dev/cluster";
    /// The EtcdMember, on its pod and volume.
    pub const MEMBER: &str = "keelson.dev/member";
    /// `voter` on pods whose member votes and stays: what the disruption budget counts.
    pub const ROLE: &str = "keelson.dev/role";
    pub const ROLE_VOTER: &str = "voter";
    pub const APP_NAME: &str = "keelson";
}

/// Annotations: what is remembered on an object, outliving the custom resources.
pub mod annotation {
    /// On a volume: the token of the cluster whose data it holds.
    pub const CLUSTER_TOKEN: &str = "keelson.dev/cluster-token";
    /// On a volume: the id of that cluster, in hexadecimal.
    pub const CLUSTER_ID: &str = "keelson.dev/cluster-id";
    /// On a volume: the id of the member whose data it holds, in hexadecimal.
    pub const MEMBER_ID: &str = "keelson.dev/member-id";
    /// On a volume: the version of the last cluster at rest that wrote to it. Nothing older is started on it.
    pub const WRITTEN_BY: &str = "keelson.dev/written-by";
    /// On a pod: the digest of the [`Template`](super::super::Template) it was made from.
    pub const TEMPLATE: &str = "keelson.dev/template";
    /// On a pod: how the operator that made it turned templates into pods.
    pub const RENDERING: &str = "keelson.dev/rendering";
    /// On a pod: `new` or `existing`, and the members it was told of.
    pub const INITIAL_CLUSTER_STATE: &str = "keelson.dev/initial-cluster-state";
    pub const INITIAL_CLUSTER: &str = "keelson.dev/initial-cluster";
    /// On a persistent volume that was set to `Retain`: the policy it had before.
    pub const RECLAIM_POLICY: &str = "keelson.dev/reclaim-policy-was";
    /// On an EtcdCluster: another value than before asks for new authorities, which take over in steps.
    pub const ROTATE: &str = "keelson.dev/rotate-ca";
    /// On a Secret with an authority: the value of that annotation which was followed last.
    pub const ROTATED: &str = "keelson.dev/rotated-for";
    /// On a Secret that the operator issued: when that was.
    pub const SINCE: &str = "keelson.dev/since";
    /// On services and secrets: the digest of what was applied.
    pub const APPLIED: &str = "keelson.dev/applied";
}
