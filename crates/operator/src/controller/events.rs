//! Events: what happened to a cluster, told to the people who run it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Resource, ResourceExt};

use crate::api::condition::{CERTIFICATES_READY, QUORUM_LOST, STORAGE_HEALTHY};
use crate::api::{EtcdCluster, OperationType};
use crate::lease::Away;
use crate::plan::{Action, Decision};

/// Tells of an action that changes members; bookkeeping is told by conditions only.
pub async fn acted(recorder: &Recorder, cluster: &EtcdCluster, decision: &Decision, action: &Action) {
    let bookkeeping =
        matches!(action, Action::Record { .. } | Action::Count { .. } | Action::KeepVolume { .. } | Action::Apply(_));
    if let Some(course) = decision.course.as_ref().filter(|_| !bookkeeping) {
        publish(recorder, cluster, EventType::Normal, reason(course.type_), course.step.clone()).await;
    }
}

/// Tells what a cluster waits for, once each time that changes.
pub async fn blocked(recorder: &Recorder, cluster: &EtcdCluster, type_: OperationType, note: String) {
    publish(recorder, cluster, EventType::Warning, "Blocked", format!("{}: {note}", reason(type_))).await;
}

/// Tells that the data, the majority or a certificate is in danger: there may be nothing the operator does about it that would be told of.
pub async fn turned(recorder: &Recorder, cluster: &EtcdCluster, old: &[Condition], new: &[Condition]) {
    let alarming = |condition: &&Condition| match (condition.type_.as_str(), condition.status.as_str()) {
        (STORAGE_HEALTHY, "False") | (QUORUM_LOST, "True") => true,
        // One that is not there yet is told of if that goes on.
        (CERTIFICATES_READY, "False") => condition.reason != "CertificateMissing",
        _ => false,
    };
    for condition in new.iter().filter(alarming) {
        let known = old.iter().any(|old| (&old.type_, &old.reason) == (&condition.type_, &condition.reason));
        if !known {
            publish(recorder, cluster, EventType::Warning, &condition.reason, condition.message.clone()).await;
        }
    }
}

/// Tells that nobody acted for a while, which nobody could tell then.
pub async fn away(recorder: &Recorder, cluster: &EtcdCluster, away: &Away) {
    let note = format!("{away}. Members went on by themselves; what has changed meanwhile is attended to now");
    publish(recorder, cluster, EventType::Warning, "Unattended", note).await;
}

pub async fn failed(recorder: &Recorder, cluster: &impl Resource<DynamicType = ()>, note: String) {
    publish(recorder, cluster, EventType::Warning, "Failed", note).await;
}

async fn publish(recorder: &Recorder, cluster: &impl Resource<DynamicType = ()>, type_: EventType, reason: &str, note: String) {
    // The API server takes at most 1024 bytes.
    let note = note.chars().take(500).collect();
    let event = Event { type_, reason: reason.into(), note: Some(note), action: "Reconcile".into(), secondary: None };
    if let Err(error) = recorder.publish(&event, &cluster.object_ref(&())).await {
        tracing::warn!(cluster = cluster.name_any(), %error, "an event could not be published");
    }
}

fn reason(type_: OperationType) -> &'static str {
    match type_ {
        OperationType::Configure => "Configure",
        OperationType::Bootstrap => "Bootstrap",
        OperationType::Adopt => "Adopt",
        OperationType::ScaleUp => "ScaleUp",
        OperationType::ScaleDown => "ScaleDown",
        OperationType::Replace => "Replace",
        OperationType::Restart => "Restart",
        OperationType::Roll => "Roll",
        OperationType::Certify => "Certify",
        OperationType::RotateCA => "RotateCA",
        OperationType::CleanUp => "CleanUp",
        OperationType::Delete => "Delete",
        OperationType::AwaitQuorum => "AwaitQuorum",
        OperationType::Frozen => "Frozen",
    }
}
