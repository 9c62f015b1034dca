//! Adding members one at a time: EtcdMember, learner, volume, pod, caught up, voter.

use super::decision::{Action, Step};
use super::view::{STEADY, Seat, View, broken, trouble_of};
use super::world::World;
use crate::api::OperationType::ScaleUp;
use crate::api::Origin;

pub(super) fn grow(view: &View) -> Option<Step> {
    if let Some(seat) = view.learners().find(|seat| !seat.name.is_empty()) {
        return Some(caught_up(view, seat));
    }
    let pending = view.world.members.iter().find(|(name, member)| {
        let unnamed = member.object.as_ref().is_some_and(|object| object.id.is_none() && object.origin == Origin::Added);
        unnamed && view.seat_of(name).is_none()
    });
    let short = view.voter_count() < view.goal.replicas;
    match pending {
        Some((name, _)) if !short => {
            let action = Action::DeleteMember { name: name.clone() };
            Some(Step::act(ScaleUp, Some(name), format!("Member {name} is not needed any more and was never added"), action))
        }
        Some((name, _)) => ready(view, name).or_else(|| steady(view, name)).or_else(|| {
            let action = Action::AddLearner { name: name.clone() };
            Some(Step::act(ScaleUp, Some(name), format!("Adding {name} to the store as a learner"), action))
        }),
        None if short => {
            let name = view.world.fresh.member.as_str();
            ready(view, name).or_else(|| {
                let token = super::adopt::token(view.world).unwrap_or_else(|| view.world.fresh.token.clone());
                let action = Action::CreateMember { name: name.into(), token, origin: Origin::Added };
                let why = format!("Creating a member: {} of {} vote", view.voter_count(), view.goal.replicas);
                Some(Step::act(ScaleUp, Some(name), why, action))
            })
        }
        None => None,
    }
}

/// The store also refuses while a voter was connected for less than that.
fn steady(view: &View, name: &str) -> Option<Step> {
    let long = |seat: &Seat| seat.member.and_then(|m| m.word.as_ref()).is_some_and(|word| word.healthy_for >= STEADY);
    let why = format!("every voter must have been healthy for {} seconds", STEADY.as_secs());
    let enough = view.voter_count() == 1 || view.voters().all(long);
    (!enough).then(|| Step::wait(ScaleUp, Some(name), "Waiting to add a member", why))
}

/// Why a member that is added now could not run, as far as is known.
pub(super) fn hindered(world: &World) -> Option<&str> {
    world.hampered().or(world.unschedulable.as_deref())
}

/// What an addition waits for: the store refuses one while a voter is down.
fn ready(view: &View, name: &str) -> Option<Step> {
    let wait = |why: String| Some(Step::wait(ScaleUp, Some(name), "Waiting to add a member", why));
    if let Some(stranger) = view.seats.iter().find(|seat| seat.name.is_empty()) {
        return wait(format!(
            "the store has member {} at {}, which is not this cluster's: remove it with `etcdctl member remove {}`",
            stranger.listed.id, stranger.listed.peer_url, stranger.listed.id
        ));
    }
    if !view.all_healthy() {
        return wait(format!("not healthy: {}", view.unhealthy()));
    }
    hindered(view.world).and_then(|why| wait(why.to_string()))
}

/// A learner on its way is finished before anything else, unless it is to go or its pod does not work: one that is stuck
/// must not keep a lost voter from being replaced.
pub(super) fn advance(view: &View) -> Option<Step> {
    let wanted = view.voter_count() < view.goal.replicas;
    let seat = view.learners().find(|seat| wanted && seat.lost.is_none() && !seat.name.is_empty())?;
    let (name, member) = (seat.name, seat.member?);
    let object = member.object.as_ref()?;
    if member.volume.is_none() && object.volume_uid.is_none() {
        let action = Action::CreateVolume { name: name.into() };
        return Some(Step::act(ScaleUp, Some(name), format!("Creating the volume of learner {name}"), action));
    }
    if seat.healthy && seat.listed.started {
        let action = Action::Promote { name: name.into(), id: seat.listed.id };
        return Some(Step::act(ScaleUp, Some(name), format!("Learner {name} has caught up: making it a voter"), action));
    }
    (!broken(member)).then(|| caught_up(view, seat))
}

fn caught_up(view: &View, seat: &Seat) -> Step {
    let name = seat.name;
    let trouble = seat.member.and_then(|member| trouble_of(view, name, member));
    let blocked_by = trouble.unwrap_or_else(|| format!("{name} is not caught up"));
    Step::wait(ScaleUp, Some(name), format!("Waiting for learner {name} to catch up with the leader"), blocked_by)
}
