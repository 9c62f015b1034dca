//! Pods that are missing, have ended, or cannot work as they are: made again on the same volume, under the same id.
//!
//! All of this is allowed without a quorum. It changes no membership and touches no volume, and it is how a quorum
//! comes back, also after a mistake such as an image that does not exist.

use super::bootstrap::founded;
use super::decision::{Action, Start, Step};
use super::view::{View, broken, lost, only_copy, quorum, too_old, trouble_of};
use super::world::{Member, Phase, Store, VolumeState, World};
use crate::api::OperationType::{self, AwaitQuorum, Bootstrap, Restart, Roll, ScaleUp};
use crate::api::Origin;

pub(super) fn restart(view: &View) -> Option<Step> {
    let world = view.world;
    world.members.iter().find_map(|(name, member)| match &member.pod {
        None => create(view, name, member),
        Some(pod) if pod.phase == Phase::Ended => {
            let why = format!("Pod {name} has ended and will not run again");
            Some(Step::act(Restart, Some(name), why, Action::DeletePod { name: name.clone() }))
        }
        Some(_) if only_copy(view, name, member).is_some() => None,
        Some(pod) if broken(member) && pod.digest != view.goal.digest => {
            let why = format!("Pod {name} does not work and is outdated: making it anew");
            Some(Step::act(Roll, Some(name), why, Action::DeletePod { name: name.clone() }))
        }
        Some(pod) if broken(member) && told_wrong(view, name, &pod.initial_cluster) => {
            let why = format!("Pod {name} was told of members that have changed since: making it anew");
            Some(Step::act(ScaleUp, Some(name), why, Action::DeletePod { name: name.clone() }))
        }
        Some(_) => None,
    })
}

fn create(view: &View, name: &str, member: &Member) -> Option<Step> {
    let world = view.world;
    let (object, volume) = (member.object.as_ref()?, member.volume.as_ref()?);
    let usable = volume.state == VolumeState::Intact && object.volume_uid.as_deref() == Some(&volume.uid);
    let lost = lost(member, world.cluster.replace_after, world.now).is_some();
    if !usable || lost || removed(view, name, member) || too_old(member, view.goal).is_some() {
        return None;
    }
    let start = match (object.origin, object.id) {
        // Nobody has used a store that is not recorded. If its volume is not empty, the member continues there anyway.
        (Origin::Seed | Origin::Adopted, None) if !founded(world) => match others(world, name) {
            Others::None => Start::New,
            Others::Going => return None,
            Others::Staying => Start::Existing,
        },
        (Origin::Adopted, _) | (Origin::Seed, Some(_)) => Start::Existing,
        (Origin::Added, Some(_)) if object.initial_cluster.is_some() => Start::Existing,
        _ => return None,
    };
    let (type_, why) = intent(view, name, start);
    Some(Step::act(type_, Some(name), why, Action::CreatePod { name: name.into(), start }))
}

/// What else carries this cluster's name.
enum Others {
    None,
    /// Only what is being deleted already.
    Going,
    Staying,
}

fn others(world: &World, name: &str) -> Others {
    let mut others = world.members.iter().filter(|(other, _)| *other != name).map(|(_, member)| member).peekable();
    if others.peek().is_none() {
        return Others::None;
    }
    let stays =
        |member: &Member| member.object.is_some() || member.volume.as_ref().is_some_and(|v| v.state != VolumeState::Deleting);
    if others.any(stays) { Others::Staying } else { Others::Going }
}

fn intent(view: &View, name: &str, start: Start) -> (OperationType, String) {
    match view.seat_of(name) {
        _ if start == Start::New => (Bootstrap, "Starting the first member".into()),
        Some(seat) if seat.listed.learner => (ScaleUp, format!("Starting learner {name}")),
        _ => (Restart, format!("Starting member {name} on its volume")),
    }
}

/// True when a quorum says that this member is not one any more.
fn removed(view: &View, name: &str, member: &Member) -> bool {
    let known = member.object.as_ref().is_some_and(|object| object.id.is_some());
    known && view.listed().is_some() && view.seat_of(name).is_none()
}

fn told_wrong(view: &View, name: &str, told: &str) -> bool {
    let joining = view.seat_of(name).filter(|seat| seat.listed.learner && !seat.listed.started);
    joining.and_then(|seat| seat.member?.object.as_ref()?.initial_cluster.as_deref()).is_some_and(|now| now != told)
}

/// Everything below this rule needs the store's own word.
pub(super) fn await_quorum(view: &View) -> Option<Step> {
    let world = view.world;
    let Store::Silent(why) = &world.store else {
        return None;
    };
    if !founded(world) {
        let name = world.members.keys().next().map(String::as_str);
        let blocked_by = trouble(view).unwrap_or_else(|| format!("the first member does not answer yet: {why}"));
        return Some(Step::wait(Bootstrap, name, "Waiting for the first member to found the store", blocked_by));
    }
    let (answering, total) = answering(world);
    let mut blocked_by = format!("{answering} of {total} members answer, {} are needed: {why}", quorum(total));
    if let Some(trouble) = trouble(view) {
        blocked_by = format!("{blocked_by}; {trouble}");
    }
    if let Some(why) = world.hampered() {
        blocked_by = format!("{blocked_by}; {why}");
    }
    let lost: Vec<_> = world
        .members
        .iter()
        .filter_map(|(name, member)| {
            let why = lost(member, world.cluster.replace_after, world.now).filter(|_| member.word.is_none())?;
            Some(format!("{name}: {why}"))
        })
        .collect();
    if !lost.is_empty() {
        blocked_by = format!("{blocked_by}; {}", lost.join("; "));
    }
    Some(Step::wait(AwaitQuorum, None, "Waiting for a majority of members; no volume is touched", blocked_by))
}

/// Members that answer and those there are, as far as is known without the store's list.
pub(super) fn answering(world: &World) -> (usize, usize) {
    let members = || world.members.values().filter(|member| member.object.as_ref().is_some_and(|object| object.id.is_some()));
    (members().filter(|member| member.word.is_some()).count(), members().count())
}

/// What is wrong with the first member that has trouble.
fn trouble(view: &View) -> Option<String> {
    view.world.members.iter().find_map(|(name, member)| trouble_of(view, name, member))
}
