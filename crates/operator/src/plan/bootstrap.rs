//! Founding the store: one seed, and only where there has never been anything.
//!
//! *Invariant*: `initial-cluster-state=new` is used only for a sole member, on the volume that was made for it, while
//! no id of a store or member is recorded anywhere, and no pod that was started so is left once clients are let in. A
//! volume that is there already is adopted, not passed over.

use super::decision::{Action, Step};
use super::restart::restart;
use super::view::{View, trouble_of, waited};
use super::world::{Exit, Member, Phase, Store, Surrounding, VolumeState, World};
use crate::api::OperationType::{AwaitQuorum, Bootstrap};
use crate::api::Origin;

/// True once there is, or may be, a store that somebody uses: its id or a member's is recorded somewhere.
pub(super) fn founded(world: &World) -> bool {
    let recorded = |member: &Member| {
        member.object.as_ref().is_some_and(|object| object.id.is_some())
            || member.volume.as_ref().is_some_and(|volume| volume.member_id.is_some())
    };
    world.cluster.id.is_some() || world.members.values().any(recorded)
}

pub(super) fn bootstrap(world: &World) -> Option<Step> {
    let first = world.members.iter().find(|(_, member)| member.object.is_some());
    if founded(world) {
        let anything = |member: &Member| member.object.is_some() || member.volume.is_some();
        let why = "every member and every volume of this cluster is gone, and with them its data. Bring the volumes back, \
                   or delete this resource and create it again to start empty";
        return (!world.members.values().any(anything))
            .then(|| Step::wait(AwaitQuorum, None, "Waiting for a volume with this cluster's data", why));
    }
    let Some((name, member)) = first else {
        let token = world.cluster.token.clone().unwrap_or_else(|| world.fresh.token.clone());
        let name = world.fresh.member.clone();
        let action = Action::CreateMember { name: name.clone(), token, origin: Origin::Seed };
        return Some(Step::act(Bootstrap, Some(&name), "Creating the first member", action));
    };
    seed(world, name, member)
}

fn seed(world: &World, name: &str, member: &Member) -> Option<Step> {
    let object = member.object.as_ref()?;
    match (&member.volume, object.volume_uid.as_deref()) {
        (None, None) if object.origin == Origin::Seed => {
            let action = Action::CreateVolume { name: name.into() };
            Some(Step::act(Bootstrap, Some(name), "Creating the volume of the first member", action))
        }
        (volume, expected) if lost(world, member, expected) => {
            let state = volume.as_ref().map(|volume| &volume.state);
            match state {
                Some(state) if object.origin == Origin::Adopted && *state != VolumeState::Deleting => Some(not_ours(name)),
                _ => start_over(name, member, state),
            }
        }
        _ => None,
    }
}

/// A volume that was there before this resource may hold what somebody put there by other means than this operator.
fn not_ours(name: &str) -> Step {
    let why = format!(
        "no member can run on volume claim {name}, which was there before this resource: bring its data back, \
         or delete the claim to start empty"
    );
    Step::wait(Bootstrap, Some(name), "Leaving a volume as it is that this operator did not make", why)
}

/// Nobody has been told of this store yet, and its volume was made for it, so it can be founded again elsewhere. The claim is marked for deletion while
/// the pod that reported its data as bad is still there, so that the report cannot be forgotten.
fn start_over(name: &str, member: &Member, volume: Option<&VolumeState>) -> Option<Step> {
    let why = "The first member lost its volume before the store was in use: starting over";
    let act = |action| Some(Step::act(Bootstrap, Some(name), why, action));
    let wait = |what: &str| Some(Step::wait(Bootstrap, Some(name), why, format!("{what} {name} is still being deleted")));
    match (volume, member.pod.as_ref().map(|pod| pod.phase)) {
        (Some(VolumeState::Intact | VolumeState::Lost | VolumeState::Unreachable(_)), _) => {
            act(Action::DeleteVolume { name: name.into() })
        }
        (_, Some(Phase::Terminating)) => wait("pod"),
        (_, Some(_)) => act(Action::DeletePod { name: name.into() }),
        (Some(VolumeState::Deleting), None) => wait("volume"),
        (None, None) => act(Action::DeleteMember { name: name.into() }),
    }
}

/// The sole member of a store that no client has been let into yet.
fn closed(world: &World) -> Option<(&str, &Member)> {
    let closed = world.cluster.reached.is_none() && world.outdated.contains(&Surrounding::ClientService);
    let (name, member) = world.members.iter().next().filter(|_| closed && world.members.len() == 1)?;
    Some((name.as_str(), member))
}

/// True while there is one member, of a store that no client has been let into yet.
pub(super) fn is_closed(world: &World) -> bool {
    closed(world).is_some()
}

/// True once there is a store that clients have been, or may have been, let into: by this resource, or one before it.
pub(super) fn in_use(world: &World) -> bool {
    let seed = |(_, member): (&str, &Member)| member.object.as_ref().is_some_and(|object| object.origin == Origin::Seed);
    founded(world) && !closed(world).is_some_and(seed)
}

/// A process that was started to found would do so again whenever its volume has lost its contents: alone, with the same
/// ids, beside members that hold the data. So its pod is made anew as one that never founds, before anybody can have written.
pub(super) fn disarm(view: &View) -> Option<Step> {
    let (name, member) = closed(view.world)?;
    let why = "The store is founded: starting its first member anew as one that never founds another";
    if view.world.cluster.id.is_none() {
        // It is written with this very look. Nobody is added meanwhile: among several this member would not be found again.
        let known = view.listed().is_some() && member.volume.as_ref().is_some_and(|volume| volume.cluster_id.is_some());
        return known.then(|| Step::wait(Bootstrap, Some(name), why, "the status does not know of the store yet"));
    }
    match &member.pod {
        Some(pod) if pod.phase == Phase::Terminating => {
            Some(Step::wait(Bootstrap, Some(name), why, format!("pod {name} is still terminating")))
        }
        Some(pod) if pod.phase == Phase::Live && pod.founds => {
            Some(Step::act(Bootstrap, Some(name), why, Action::DeletePod { name: name.into() }))
        }
        Some(_) if view.listed().is_some() => None,
        Some(_) => restart(view).or_else(|| {
            let blocked_by = trouble_of(view, name, member).unwrap_or_else(|| format!("{name} is not back yet"));
            Some(Step::wait(Bootstrap, Some(name), why, blocked_by))
        }),
        None => restart(view),
    }
}

fn lost(world: &World, member: &Member, expected: Option<&str>) -> bool {
    if matches!(world.store, Store::Listed { .. }) {
        return false;
    }
    let Some(volume) = &member.volume else {
        return true;
    };
    if member.word.is_none() && matches!(member.pod.as_ref().and_then(|pod| pod.exit), Some(Exit::Corrupt | Exit::DataGone)) {
        return true;
    }
    match volume.state {
        VolumeState::Intact => expected != Some(&volume.uid),
        VolumeState::Lost | VolumeState::Deleting => true,
        VolumeState::Unreachable(since) => waited(since, world.now) >= world.cluster.replace_after,
    }
}
