//! Decides on one next action from what was observed. Pure: no client, no clock, no random source.
//!
//! Each file is one rule that recognises a situation and says what to do about it, or what it waits for. [`plan`] asks
//! them in order of urgency; the first that has something to say is heard. What may be done without a quorum comes
//! before the question whether there is one; what changes the membership comes after it. What members do not need
//! themselves, such as Services for clients, is done while they are waited for and never held against them.
//!
//! *Invariants*, held by `explore` over every order of events in small worlds: the planner never takes the majority
//! away, founds at most one store that anybody could have written to, never deletes the volume of a member that the
//! store counts on, changes one member at a time, and comes to rest.

mod adopt;
mod authority;
mod bootstrap;
mod budget;
mod certify;
mod cleanup;
mod decision;
mod delete;
#[cfg(test)]
mod explore;
mod freeze;
mod grow;
pub mod ids;
mod latch;
mod record;
mod removal;
mod report;
mod restart;
mod roll;
mod settle;
#[cfg(test)]
mod tests;
mod version;
mod view;
mod world;

use std::time::Duration;

pub use authority::{Authority, Certificate, Trust, Turn};
pub use decision::{Action, Course, Decision, Record, Start};
pub use view::{MAX_LAG, STEADY, quorum};
pub use world::*;

use crate::api::OperationType;
use decision::Step;
use view::View;

/// How soon to look again while something is awaited that sends no event, such as a learner catching up.
const WAITING: Duration = Duration::from_secs(2);
/// How often the members are asked when there is nothing to do.
const IDLE: Duration = Duration::from_secs(20);

/// What to do next, and why.
pub fn plan(world: &World) -> Decision {
    let latch = latch::choose(world);
    let view = View::new(world, latch.goal);
    let step = next(&view);
    let reached = step.is_none() && !world.cluster.paused && !world.cluster.deleting;
    // An edit that is not taken over does not keep the target in force from being reached.
    let step = step.or_else(|| {
        let why = latch.held_back.as_deref().filter(|_| reached)?;
        Some(Step::wait(OperationType::Configure, None, "The spec asks for something that is not done", why))
    });
    let (course, action) = match step {
        Some(step) => (Some(step.course), step.action),
        None => (None, None),
    };
    let look_again = match (&course, &action) {
        (_, Some(_)) => Duration::ZERO,
        (Some(_), None) => WAITING,
        (None, None) => IDLE,
    };
    // Volumes come first: they outlive the status.
    let on_volume =
        |id: &ids::ClusterId| world.members.values().any(|m| m.volume.as_ref().is_some_and(|v| v.cluster_id == Some(*id)));
    let founded = view.listed().filter(on_volume).filter(|_| !freeze::contradicts(world));
    Decision {
        latch: latch.taken,
        reached,
        cluster_id: founded,
        token: adopt::token(world),
        signs: report::signs(&view, course.as_ref(), latch.held_back.as_deref()),
        course,
        action,
        look_again,
    }
}

/// The rules, most urgent first.
fn next(view: &View) -> Option<Step> {
    let world = view.world;
    if world.cluster.deleting {
        return delete::finish(world);
    }
    if let Some(step) = freeze::frozen(world) {
        return Some(step);
    }
    if world.cluster.paused {
        return None;
    }
    // Before there is a store nobody can be harmed by waiting, and the first member needs certificates.
    if let Some(step) = certify::certify(world).filter(|_| world.cluster.id.is_none()) {
        return Some(step);
    }
    if let Some(step) = obstructed(world).filter(|_| world.cluster.id.is_none()) {
        return Some(step);
    }
    match members(view) {
        Some(step) if step.action.is_some() => Some(step),
        waiting => around(world)
            .or(waiting)
            .or_else(|| record::written_by(view))
            .or_else(|| certify::await_members(world))
            .or_else(|| obstructed(world)),
    }
}

/// What members need.
fn members(view: &View) -> Option<Step> {
    let world = view.world;
    delete::finalizer(world)
        .or_else(|| apply(world, Surrounding::PeerService))
        .or_else(|| adopt::adopt(world))
        .or_else(|| record::recall(world))
        .or_else(|| bootstrap::bootstrap(world))
        .or_else(|| record::record(view))
        .or_else(|| bootstrap::disarm(view))
        .or_else(|| restart::restart(view))
        .or_else(|| let_in(world))
        .or_else(|| restart::await_quorum(view))
        .or_else(|| cleanup::cleanup(view))
        .or_else(|| budget::budget(view))
        .or_else(|| grow::advance(view))
        .or_else(|| removal::remove(view))
        .or_else(|| grow::grow(view))
        .or_else(|| roll::roll(view))
        .or_else(|| settle::settle(view))
        .or_else(|| cleanup::linger(view))
}

/// Clients are let in after the store's id was recorded on its first volume and then in the status, so that a volume
/// without an id holds nothing that anybody wrote; and before anything else is done to a store that this resource has
/// not brought to rest yet, so that nobody waits for members that are only added.
fn let_in(world: &World) -> Option<Step> {
    let due = world.cluster.id.is_some() && world.cluster.reached.is_none();
    let step = apply(world, Surrounding::ClientService).filter(|_| due);
    // Without any client there is nothing to heal for either.
    step.or_else(|| obstructed(world).filter(|_| due && bootstrap::is_closed(world)))
}

/// What is for others than members, and certificates: those of members are renewed long before anybody misses them.
fn around(world: &World) -> Option<Step> {
    let open = world.cluster.id.is_some() && !bootstrap::is_closed(world);
    // Who is handed what a step of a replacement brings is handed it before the next step is taken.
    record::keep(world)
        .or_else(|| apply(world, Surrounding::Connection).filter(|_| open))
        .or_else(|| certify::certify(world))
        .or_else(|| apply(world, Surrounding::ClientService).filter(|_| open))
}

/// Brings one object in step, unless that is somebody else's.
fn apply(world: &World, object: Surrounding) -> Option<Step> {
    let due = world.outdated.contains(&object) && world.obstacle_to(&Need::Object(object)).is_none();
    let what = match object {
        Surrounding::PeerService => "Applying the Service by which members find each other",
        Surrounding::ClientService => "Applying the Service for clients",
        Surrounding::Connection => "Applying the Secret with what clients need",
        Surrounding::Certificate(_) => "Asking cert-manager for a certificate",
    };
    due.then(|| Step::act(OperationType::Configure, None, what, Action::Apply(object)))
}

/// A wait for what only a person or time can take away.
fn obstructed(world: &World) -> Option<Step> {
    let obstacle = world.in_the_way.first()?;
    Some(Step::wait(OperationType::Configure, None, "Waiting for what this cluster needs", obstacle.why.clone()))
}
