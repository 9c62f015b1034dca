//! Which target is in force: the one taken over last, or the one the spec asks for now.
//!
//! An edit waits until the last target is reached, so that two changes never mix. It is taken over at once when it
//! goes back to where the cluster was, and when the target in force cannot be reached, so that a mistake can be mended.

use super::version;
use super::view::too_old;
use super::world::{Goal, World};

pub(super) struct Latch<'a> {
    pub goal: &'a Goal,
    /// The spec's target is taken over now.
    pub taken: bool,
    /// Why the spec's target is not in force, if it is not.
    pub held_back: Option<String>,
}

pub(super) fn choose(world: &World) -> Latch<'_> {
    let cluster = &world.cluster;
    let wanted = &cluster.wanted;
    let Some(latched) = &cluster.latched else {
        return Latch { goal: wanted, taken: true, held_back: None };
    };
    // Of several edits made during a pause only the last is meant.
    if latched == wanted || cluster.paused {
        return Latch { goal: latched, taken: false, held_back: None };
    }
    // What no member can be started with is nothing to come from.
    if world.members.values().any(|member| too_old(member, latched).is_some()) {
        return Latch { goal: wanted, taken: true, held_back: None };
    }
    let reached = cluster.reached.as_ref();
    let goes_back = reached.is_some_and(|reached| wanted.is(reached));
    let arrived = reached.is_some_and(|reached| latched.is(reached));
    if !goes_back && let Err(why) = version::path(&latched.version, &wanted.version) {
        return Latch { goal: latched, taken: false, held_back: Some(why) };
    }
    if !(goes_back || arrived || unreachable(world, latched)) {
        let why =
            "The spec was changed while an earlier change is still under way; it is taken over when that one is finished".into();
        return Latch { goal: latched, taken: false, held_back: Some(why) };
    }
    Latch { goal: wanted, taken: true, held_back: None }
}

/// True when the target in force cannot be reached: Kubernetes says so of a pod made for it, or its time is up.
fn unreachable(world: &World, latched: &Goal) -> bool {
    let overdue = world.cluster.operation.as_ref().is_some_and(|operation| operation.deadline <= world.now);
    let mut pods = world.members.values().filter_map(|member| member.pod.as_ref());
    overdue || pods.any(|pod| pod.digest == latched.digest && pod.trouble.is_some())
}
