//! What is left of members that the store has removed: pod, volume and EtcdMember.
//!
//! *Invariant*: only members whose id is recorded and is not in the list that a quorum confirmed are cleaned up. Not to
//! be in the list without a recorded id means that it was not added yet.

use super::decision::{Action, Step};
use super::view::View;
use super::world::{Member, Phase, VolumeState};
use crate::api::OperationType::CleanUp;

/// What there is to do. Pods and volumes take their time to go, or for ever on a node that is gone: nobody else waits for that.
pub(super) fn cleanup(view: &View) -> Option<Step> {
    let going = removed(view).find_map(|(name, member)| still_runs(name, member));
    going.or_else(|| removed(view).map(|(name, member)| next(name, member)).find(|step| step.action.is_some()))
}

/// What is still to go, when there is nothing else to do.
pub(super) fn linger(view: &View) -> Option<Step> {
    removed(view).map(|(name, member)| next(name, member)).next()
}

fn removed<'v>(view: &'v View) -> impl Iterator<Item = (&'v str, &'v Member)> {
    view.world.members.iter().filter_map(move |(name, member)| {
        let id = member.object.as_ref()?.id?;
        let gone = view.listed().is_some() && view.seats.iter().all(|seat| seat.listed.id != id);
        gone.then_some((name.as_str(), member))
    })
}

/// One that was removed ends. One that goes on may be of a store that only seems to be another.
fn still_runs(name: &str, member: &Member) -> Option<Step> {
    member.word.as_ref().filter(|word| word.leader.is_some())?;
    let blocked_by = format!("{name} still answers and follows a leader, as if it had not been removed");
    Some(Step::wait(CleanUp, Some(name), why(name), blocked_by))
}

fn next(name: &str, member: &Member) -> Step {
    let act = |action| Step::act(CleanUp, Some(name), why(name), action);
    let wait = |blocked_by| Step::wait(CleanUp, Some(name), why(name), blocked_by);
    match (&member.pod, &member.volume) {
        (Some(pod), _) if pod.phase != Phase::Terminating => act(Action::DeletePod { name: name.into() }),
        // Before the pod is gone, which may be long: a volume that is here and not in the list is taken for another store's.
        (_, Some(volume)) if volume.state != VolumeState::Deleting => act(Action::DeleteVolume { name: name.into() }),
        (Some(_), _) => wait(format!("pod {name} is still terminating")),
        (None, Some(_)) => wait(format!("the volume of {name} is still being deleted")),
        (None, None) => act(Action::DeleteMember { name: name.into() }),
    }
}

fn why(name: &str) -> String {
    format!("Member {name} was removed from the store: cleaning up after it")
}
