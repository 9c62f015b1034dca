//! The PodDisruptionBudget: an integer, over pods that are labelled as voters.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::owned;
use crate::api::{EtcdCluster, label};

pub fn budget(cluster: &EtcdCluster, min_available: i32) -> PodDisruptionBudget {
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let voters = [(label::CLUSTER, name.as_str()), (label::ROLE, label::ROLE_VOTER)];
    let selector = LabelSelector {
        match_labels: Some(BTreeMap::from(voters.map(|(key, value)| (key.to_string(), value.to_string())))),
        ..LabelSelector::default()
    };
    PodDisruptionBudget {
        metadata: owned(cluster, name),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(min_available)),
            selector: Some(selector),
            // A pod that does not work may always go: it helps no quorum, and would block its node's drain for ever.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
