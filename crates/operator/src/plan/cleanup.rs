//! What is left of members that the store has removed: pod, then volume, then EtcdMember.
//!
//! *Invariant*: only members whose id is recorded and is not in the list that a quorum confirmed are cleaned up. Not to
//! be in the list without a recorded id means that it was not added yet.

use super::decision::{Action, Step};
use super::view::View;
use super::world::{Phase, VolumeState};
use crate::api::OperationType::CleanUp;

pub(super) fn cleanup(view: &View) -> Option<Step> {
    view.listed()?;
    view.world.members.iter().find_map(|(name, member)| {
        let id = member.object.as_ref()?.id?;
        if view.seats.iter().any(|seat| seat.listed.id == id) {
            return None;
        }
        let why = format!("Member {name} was removed from the store: cleaning up after it");
        // One that was removed ends. One that goes on may be of a store that only seems to be another.
        if member.word.as_ref().is_some_and(|word| word.leader.is_some()) {
            let blocked_by = format!("{name} still answers and follows a leader, as if it had not been removed");
            return Some(Step::wait(CleanUp, Some(name), why, blocked_by));
        }
        let act = |action| Some(Step::act(CleanUp, Some(name), why.clone(), action));
        match (&member.pod, &member.volume) {
            (Some(pod), _) if pod.phase == Phase::Terminating => {
                Some(Step::wait(CleanUp, Some(name), why.clone(), format!("pod {name} is still terminating")))
            }
            (Some(_), _) => act(Action::DeletePod { name: name.clone() }),
            (None, Some(volume)) if volume.state == VolumeState::Deleting => {
                Some(Step::wait(CleanUp, Some(name), why.clone(), format!("the volume of {name} is still being deleted")))
            }
            (None, Some(_)) => act(Action::DeleteVolume { name: name.clone() }),
            (None, None) => act(Action::DeleteMember { name: name.clone() }),
        }
    })
}
