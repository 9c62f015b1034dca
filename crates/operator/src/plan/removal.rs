//! Taking a member out of the store: because its data is lost, because fewer are wanted, or because it never got to vote.
//!
//! Replacing removes before it adds: the store refuses to add while a voter is down, and a member without data helps
//! nobody. Learners go first, unhealthy voters before healthy ones, the leader last.

use super::decision::{Action, Step};
use super::grow::hindered;
use super::ids::MemberId;
use super::view::{STEADY, Seat, View, quorum};
use crate::api::OperationType::{self, Replace, ScaleDown};

/// The member to remove next, if any is, and why it cannot go yet.
struct Candidate<'v, 'a> {
    seat: &'v Seat<'a>,
    type_: OperationType,
    why: String,
    blocked_by: Option<String>,
}

pub(super) fn remove(view: &View) -> Option<Step> {
    let Candidate { seat, type_, why, blocked_by } = candidate(view)?;
    Some(match blocked_by {
        Some(blocked_by) => Step::wait(type_, Some(seat.name), why, blocked_by),
        None => Step::act(type_, Some(seat.name), why, Action::RemoveMember { id: seat.listed.id }),
    })
}

/// The member that may be removed right now.
pub(super) fn allowed(view: &View) -> Option<MemberId> {
    candidate(view).filter(|candidate| candidate.blocked_by.is_none()).map(|candidate| candidate.seat.listed.id)
}

fn candidate<'v, 'a>(view: &'v View<'a>) -> Option<Candidate<'v, 'a>> {
    let surplus = view.voter_count() >= view.goal.replicas;
    if let Some(seat) = view.learners().find(|seat| seat.lost.is_some() || surplus && !seat.name.is_empty()) {
        let why = match &seat.lost {
            Some(lost) => format!("Removing learner {}: {lost}", seat.name),
            None => format!("Removing learner {}: it is not needed any more", seat.name),
        };
        return Some(Candidate { seat, type_: if seat.lost.is_some() { Replace } else { ScaleDown }, why, blocked_by: None });
    }
    if let Some(seat) = view.voters().find(|seat| seat.lost.is_some()) {
        let why = format!("Removing member {}: {}", seat.name, seat.lost.as_deref().unwrap_or_default());
        let blocked_by = replaceable(view).or_else(|| majority_stays(view, seat));
        return Some(Candidate { seat, type_: Replace, why, blocked_by });
    }
    if view.voter_count() <= view.goal.replicas {
        return None;
    }
    let seat = view.voters().filter(|seat| !seat.name.is_empty()).min_by_key(|seat| {
        let counted = seat.member.and_then(|member| member.pod.as_ref()).is_some_and(|pod| pod.counted);
        // One that stopped counting is on its way out already.
        (seat.healthy, view.leader() == Some(seat.listed.id), counted, std::cmp::Reverse(seat.name))
    })?;
    let why = format!("Removing member {}: {} voters are wanted", seat.name, view.goal.replicas);
    Some(Candidate { seat, type_: ScaleDown, why, blocked_by: majority_stays(view, seat) })
}

/// What keeps a lost member from being replaced by another.
fn replaceable(view: &View) -> Option<String> {
    let needed = quorum(view.voter_count());
    let steady = |seat: &&Seat| {
        let word = seat.member.and_then(|member| member.word.as_ref());
        seat.healthy && word.is_some_and(|word| word.healthy_for >= STEADY)
    };
    if view.voter_count() <= view.goal.replicas
        && let Some(why) = hindered(view.world)
    {
        return Some(format!("another member could not run: {why}"));
    }
    (view.voters().filter(steady).count() < needed)
        .then(|| format!("{needed} voters must have been healthy for {} seconds", STEADY.as_secs()))
}

/// Why the majority would not hold without `leaving`, or could not decide on its removal.
fn majority_stays(view: &View, leaving: &Seat) -> Option<String> {
    let voters = view.voter_count();
    let others = view.voters().filter(|seat| seat.healthy && seat.listed.id != leaving.listed.id).count();
    let deciding = others + usize::from(leaving.healthy);
    if view.leader().is_none() {
        return Some("no member knows a leader".into());
    }
    (others < quorum(voters - 1) || deciding < quorum(voters)).then(|| {
        format!(
            "{others} of the {} voters that stay are healthy, {} are needed; waiting for {}",
            voters - 1,
            quorum(voters - 1),
            view.unhealthy()
        )
    })
}
