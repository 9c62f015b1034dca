//! What a pod's status says, in the planner's words.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use crate::api::{annotation, label};
use crate::plan::{Exit, Phase, Pod as Seen};
use crate::store;

/// Reasons why a container waits that do not go away by waiting.
const TROUBLES: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

pub fn seen(pod: &Pod) -> Seen {
    let note = |key: &str| pod.annotations().get(key).cloned().unwrap_or_default();
    Seen {
        digest: note(annotation::TEMPLATE),
        initial_cluster: note(annotation::INITIAL_CLUSTER),
        phase: phase(pod),
        ready: ready(pod),
        counted: pod.labels().get(label::ROLE).is_some_and(|role| role == label::ROLE_VOTER),
        trouble: container(pod).and_then(waits).or_else(|| unscheduled(pod)),
        exit: container(pod).and_then(exit),
    }
}

pub fn phase(pod: &Pod) -> Phase {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        _ if pod.metadata.deletion_timestamp.is_some() => Phase::Terminating,
        Some("Failed" | "Succeeded") => Phase::Ended,
        _ => Phase::Live,
    }
}

pub fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    phase(pod) == Phase::Live && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn waits(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| TROUBLES.contains(reason))?;
    let message = waiting.message.as_deref().unwrap_or("no details");
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = ended
        .map(|ended| format!("; it ended with code {}, {}", ended.exit_code, ended.reason.as_deref().unwrap_or("no reason")));
    Some(format!("{reason}: {message}{}", ended.unwrap_or_default()))
}

fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    Some(format!("no node takes it: {}", scheduled.message.as_deref().unwrap_or("no details")))
}

fn exit(container: &ContainerStatus) -> Option<Exit> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref())?;
    store::exit(ended.exit_code)
}
