//! What a pod's status says, in the planner's words.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::api::{annotation, label};
use crate::plan::{Exit, Phase, Pod as Seen};
use crate::{render, store};

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

/// Letters of a process' last line that are passed on.
const LAST_WORDS: usize = 200;

pub fn seen(pod: &Pod) -> Seen {
    let note = |key: &str| pod.annotations().get(key).cloned().unwrap_or_default();
    Seen {
        digest: note(annotation::TEMPLATE),
        initial_cluster: note(annotation::INITIAL_CLUSTER),
        founds: note(annotation::INITIAL_CLUSTER_STATE) == render::founds(),
        phase: phase(pod),
        ready: ready(pod),
        counted: pod.labels().get(label::ROLE).is_some_and(|role| role == label::ROLE_VOTER),
        trouble: container(pod).and_then(troubled).or_else(|| unscheduled(pod)),
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

fn troubled(container: &ContainerStatus) -> Option<String> {
    waits(container).or_else(|| Some(exit(container)?.says().into()))
}

fn waits(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| TROUBLES.contains(reason))?;
    let message = waiting.message.as_deref().unwrap_or("no details");
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = ended.map(|ended| match store::exit(ended.exit_code) {
        Some(exit) => format!("; {} (exit code {})", exit.says(), ended.exit_code),
        None => format!(
            "; it ended with code {}, {}{}",
            ended.exit_code,
            ended.reason.as_deref().unwrap_or("no reason"),
            last_words(ended)
        ),
    });
    Some(format!("{reason}: {message}{}", ended.unwrap_or_default()))
}

/// The last line that a process wrote, which says why it ended.
fn last_words(ended: &ContainerStateTerminated) -> String {
    let line = ended.message.as_deref().and_then(|message| message.lines().rev().find(|line| !line.trim().is_empty()));
    line.map_or_else(String::new, |line| format!(": {}", line.trim().chars().take(LAST_WORDS).collect::<String>()))
}

fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    Some(format!("no node takes it: {}", scheduled.message.as_deref().unwrap_or("no details")))
}

/// Only of a process that does not run again: one that does may be well by now, and is judged by how it ends then.
fn exit(container: &ContainerStatus) -> Option<Exit> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    if states[0].is_some_and(|state| state.running.is_some()) {
        return None;
    }
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref())?;
    store::exit(ended.exit_code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(state: serde_json::Value, last: serde_json::Value) -> Seen {
        let container = json!({
            "name": "keelson", "image": "", "imageID": "", "restartCount": 1, "ready": false, "state": state, "lastState": last,
        });
        seen(&serde_json::from_value(json!({ "status": { "phase": "Running", "containerStatuses": [container] } })).unwrap())
    }

    #[test]
    fn a_process_that_runs_again_is_not_judged_by_how_it_ended_before() {
        let ended = json!({ "terminated": { "exitCode": 65 } });
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } });
        assert_eq!(of(waiting.clone(), ended.clone()).exit, Some(Exit::Corrupt));
        assert_eq!(of(ended.clone(), json!({})).exit, Some(Exit::Corrupt));
        let again = of(json!({ "running": {} }), ended.clone());
        assert_eq!((again.exit, again.trouble), (None, None));
        assert_eq!(of(waiting, json!({ "terminated": { "exitCode": 1 } })).exit, None);
    }

    #[test]
    fn exit_codes_of_the_store_are_told_in_words() {
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } });
        for (code, says) in [(65, "data is damaged"), (66, "data is gone"), (67, "was removed"), (1, "code 1, Error: no flag x")]
        {
            let ended = json!({ "exitCode": code, "reason": "Error", "message": "begins\nno flag x\n" });
            let trouble = of(waiting.clone(), json!({ "terminated": ended })).trouble;
            assert!(trouble.as_ref().is_some_and(|trouble| trouble.contains(says)), "{code}: {trouble:?}");
        }
    }
}
