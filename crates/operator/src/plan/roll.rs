//! Renewing pods that were made from an older template, one at a time: followers first, the leader last.
//!
//! The gate is the store's own word: every voter answers, follows a leader and has applied what it has. When a member
//! does not come back, the gate stays shut and says who is missing.

use super::decision::{Action, Step};
use super::view::{STEADY, Seat, View, only_copy, quorum};
use crate::api::OperationType::Roll;

pub(super) fn roll(view: &View) -> Option<Step> {
    let outdated = |seat: &&Seat| pod(seat).is_some_and(|pod| pod.digest != view.goal.digest);
    let is_leader = |seat: &Seat| view.leader() == Some(seat.listed.id);
    let seat = view.voters().filter(outdated).min_by_key(|seat| (is_leader(seat), seat.name))?;
    let name = seat.name;
    if let Some(blocked_by) = shut(view).or_else(|| only_copy(view, name, seat.member?)) {
        return Some(Step::wait(Roll, Some(name), format!("Waiting to renew {name}"), blocked_by));
    }
    let heir = view.voters().find(|other| other.healthy && other.listed.id != seat.listed.id);
    if is_leader(seat)
        && let Some(heir) = heir
    {
        let action = Action::MoveLeader { from: seat.listed.id, to: heir.listed.id };
        return Some(Step::act(
            Roll,
            Some(name),
            format!("Moving leadership from {name} to {} before renewing it", heir.name),
            action,
        ));
    }
    let action = Action::DeletePod { name: name.into() };
    Some(Step::act(Roll, Some(name), format!("Renewing {name} with version {}", view.goal.version), action))
}

fn pod<'a>(seat: &Seat<'a>) -> Option<&'a super::world::Pod> {
    seat.member?.pod.as_ref()
}

/// Why no healthy pod may be taken down now.
fn shut(view: &View) -> Option<String> {
    if let Some(why) = view.world.hampered() {
        return Some(why.to_string());
    }
    if let Some(seat) = view.voters().find(|seat| !seat.healthy || !pod(seat).is_some_and(|pod| pod.ready)) {
        let trouble = pod(seat).and_then(|pod| pod.trouble.clone()).unwrap_or_else(|| "it is not back yet".into());
        return Some(format!("member {}: {trouble}", if seat.name.is_empty() { &seat.listed.peer_url } else { seat.name }));
    }
    // One that answers may be about to crash again.
    let word = |seat: &Seat| seat.member.and_then(|member| member.word.as_ref().map(|word| word.healthy_for));
    if let Some(seat) = view.voters().find(|seat| word(seat).is_some_and(|time| time < STEADY)) {
        return Some(format!("member {} has answered for less than {} s", seat.name, STEADY.as_secs()));
    }
    let voters = view.voter_count();
    // One or two voters cannot spare any; the outage is what was asked for.
    (voters > 2 && view.healthy_count() <= quorum(voters)).then(|| "no voter can be spared".into())
}
