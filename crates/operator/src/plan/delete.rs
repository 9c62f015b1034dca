//! The end of a cluster. With `deletionPolicy: Retain` there is nothing to do: volumes have no owner and stay. With
//! `Delete` a finalizer holds the resource until members, then volumes, are gone.

use super::decision::{Action, Step};
use super::world::{Phase, VolumeState, World};
use crate::api::DeletionPolicy;
use crate::api::OperationType::{Configure, Delete};

/// Puts the finalizer on, or takes it off, when the policy was changed.
pub(super) fn finalizer(world: &World) -> Option<Step> {
    let due = world.cluster.deletion_policy == DeletionPolicy::Delete;
    let why = match due {
        true => "Making sure that volumes are deleted with the cluster, as deletionPolicy asks",
        false => "Making sure that volumes stay when the cluster is deleted, as deletionPolicy asks",
    };
    (world.cluster.finalizer != due).then(|| Step::act(Configure, None, why, Action::SetFinalizer(due)))
}

/// What is left to delete.
pub(super) fn finish(world: &World) -> Option<Step> {
    if !world.cluster.finalizer {
        return None;
    }
    let last = || Some(Step::act(Delete, None, "Nothing is left to delete", Action::SetFinalizer(false)));
    if world.cluster.deletion_policy == DeletionPolicy::Retain {
        return last();
    }
    // Every pod is asked to end before any is waited for; volumes go only when no pod is left.
    let pod = |phase: fn(Phase) -> bool| world.members.iter().find(|(_, m)| m.pod.as_ref().is_some_and(|pod| phase(pod.phase)));
    if let Some((name, _)) = pod(|phase| phase != Phase::Terminating) {
        return Some(Step::act(Delete, Some(name), format!("Deleting pod {name}"), Action::DeletePod { name: name.clone() }));
    }
    if let Some((name, _)) = pod(|phase| phase == Phase::Terminating) {
        return Some(Step::wait(Delete, Some(name), "Waiting for pods to end", format!("pod {name} is still terminating")));
    }
    let volume = |gone: bool| {
        // Volumes of another store only bear this cluster's name: they are not its to delete.
        let ours = |m: &super::Member| {
            let token = m.volume.as_ref().and_then(|volume| volume.token.as_ref());
            token.is_none() || world.cluster.token.is_none() || token == world.cluster.token.as_ref()
        };
        let due = |m: &super::Member| ours(m) && m.volume.as_ref().is_some_and(|v| (v.state == VolumeState::Deleting) == gone);
        world.members.iter().find(|(_, member)| due(member))
    };
    if let Some((name, _)) = volume(false) {
        let why = format!("Deleting the volume of {name}, as deletionPolicy asks");
        return Some(Step::act(Delete, Some(name), why, Action::DeleteVolume { name: name.clone() }));
    }
    if let Some((name, _)) = volume(true) {
        return Some(Step::wait(
            Delete,
            Some(name),
            "Waiting for volumes to go",
            format!("the volume of {name} is still being deleted"),
        ));
    }
    if let Some((name, _)) = world.members.iter().find(|(_, member)| member.object.is_some()) {
        return Some(Step::act(
            Delete,
            Some(name),
            format!("Deleting EtcdMember {name}"),
            Action::DeleteMember { name: name.clone() },
        ));
    }
    last()
}
