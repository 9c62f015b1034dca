//! Explores every order of events in small worlds: what pods, volumes and the store do by themselves, single failures,
//! changes of mind, and an operator that crashes between any two writes. Not sampled: all of it.
//!
//! Three things are proved of each world: no action breaks a rule (`obey`); without further failures nothing goes in
//! circles; and where nothing moves any more, the cluster is what was asked for, or there is a good reason. The search
//! is our own because the second needs the whole graph, which checkers of single paths do not keep.
//!
//! An API server that is away is no failure of its own: it is an operator that comes late, and in every world all that
//! happens by itself may happen before the operator acts.

mod cases;
mod certificates;
mod happen;
mod obey;
mod state;

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::plan;
use super::{Decision, World, quorum};
use crate::api::{DeletionPolicy, OperationType, Origin};
use obey::Extent;
use state::{BAD, Content, Run, State};

/// More worlds than this take too long to be part of every test run.
const LIMIT: usize = 3_000_000;

/// What to explore: where to begin, and which specs people change to.
pub struct Scope {
    pub start: State,
    pub specs: &'static [(u8, u8)],
    /// What else people do.
    pub turns: &'static [Turn],
    pub failing: Failing,
    /// The planner itself, except where the exploration is put to the test.
    pub planner: fn(&World) -> Decision,
}

impl Scope {
    pub fn new(start: State, specs: &'static [(u8, u8)]) -> Self {
        Self { start, specs, turns: &[], failing: Failing::Anything, planner: plan }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    Anything,
    /// Nodes are gone for good, with pods and volumes.
    Nodes,
    /// That, and members that the operator does not hear for a while.
    Silence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The cluster is paused, or goes on.
    Pause,
    /// The resource is deleted, or what is to happen to its volumes then is decided anew.
    Deletion,
}

struct Seen {
    /// How it was first reached, to tell the story of a failure.
    from: u32,
    by: Box<str>,
    /// Where it goes without failures.
    onward: Vec<u32>,
}

/// Explores and returns how many worlds there are; panics with the shortest story that breaks a rule.
pub fn explore(scope: &Scope) -> usize {
    let mut index = HashMap::from([(fingerprint(&scope.start), 0u32)]);
    let mut seen = vec![Seen { from: 0, by: "it begins".into(), onward: vec![] }];
    let mut queue = VecDeque::from([(0u32, scope.start.clone())]);
    while let Some((at, state)) = queue.pop_front() {
        let decision = (scope.planner)(&state.world());
        let (onward, astray) = next(scope, &state, &decision).unwrap_or_else(|rule| fail(&seen, at, &rule, &state));
        if onward.is_empty()
            && let Err(why) = rests_well(&state, &decision)
        {
            fail(&seen, at, &why, &state);
        }
        let calm = onward.len();
        for (order, (by, after)) in onward.into_iter().chain(astray).enumerate() {
            let to = *index.entry(fingerprint(&after)).or_insert_with(|| {
                seen.push(Seen { from: at, by: by.into(), onward: vec![] });
                assert!(seen.len() < LIMIT, "the worlds do not end: make the scope smaller");
                let to = seen.len() as u32 - 1;
                if let Err(rule) = obey::always(&after) {
                    fail(&seen, to, &rule, &after);
                }
                queue.push_back((to, after));
                to
            });
            if order < calm {
                seen[at as usize].onward.push(to);
            }
        }
    }
    goes_in_no_circle(&seen);
    seen.len()
}

/// The world in which `start` comes to rest when nothing goes wrong.
fn settled(start: State) -> State {
    let nothing = Scope::new(start.clone(), &[]);
    let mut state = start;
    loop {
        let decision = plan(&state.world());
        let (onward, _) = next(&nothing, &state, &decision).expect("no rule is broken without failures");
        match onward.into_iter().next() {
            Some((_, after)) => state = after,
            None => return state,
        }
    }
}

type Ways = Vec<(String, State)>;

/// Where a world goes by itself and by the operator; and where it goes when something fails.
fn next(scope: &Scope, state: &State, decision: &Decision) -> Result<(Ways, Ways), String> {
    let mut onward = happen::by_itself(state);
    if state.end.done {
        return Ok((onward, vec![]));
    }
    let mut astray = happen::failures(state, scope.failing);
    astray.extend(happen::edits(state, scope));
    let mut noted = state.clone();
    noted.remember(decision);
    let done = obey::act(&noted, decision, Extent::Whole)?;
    let what = match (&decision.action, &decision.course) {
        (Some(action), _) => format!("the operator: {action:?}"),
        (None, Some(course)) => format!("the operator waits: {}: {}", course.step, course.blocked_by.as_deref().unwrap_or("")),
        (None, None) => "the operator rests".into(),
    };
    if done != *state {
        onward.push((what.clone(), done));
    }
    if decision.action.is_some() && state.crashes_left > 0 {
        let half = obey::act(&noted, decision, Extent::Half)?;
        for (by, mut after) in [(format!("{what}, crashing before it"), noted), (format!("{what}, crashing half-way"), half)] {
            after.crashes_left -= 1;
            astray.push((by, after));
        }
    }
    Ok((onward, astray))
}

/// Nothing moves any more: that must be what was asked for, or nobody's fault.
fn rests_well(state: &State, decision: &Decision) -> Result<(), String> {
    if state.end.done {
        let left = state.slots.iter().any(|slot| *slot != state::Slot::default());
        return if left && state.end.takes_all() { Err("the deletion left something behind".into()) } else { Ok(()) };
    }
    if state.end.asked {
        return Err("the deletion does not end".into());
    }
    if state.paused {
        return Ok(());
    }
    let frozen = decision.course.as_ref().is_some_and(|course| course.type_ == OperationType::Frozen);
    if !frozen && state.end.finalizer != (state.end.policy == DeletionPolicy::Delete) {
        return Err("the finalizer is not as deletionPolicy asks".into());
    }
    let Some((needed, complete)) = happen::data(state) else {
        // A volume that was there before is not taken away, whatever is wrong with it: its owner is told.
        let theirs = state.slots.iter().any(|slot| {
            let adopted = slot.object.as_ref().is_some_and(|object| object.origin == Origin::Adopted);
            adopted && slot.volume.as_ref().is_some_and(|volume| volume.content == Content::Corrupt)
        });
        let said = decision.course.as_ref().is_some_and(|course| course.blocked_by.is_some());
        return if state.spec.1 == BAD || (theirs && said) { Ok(()) } else { Err("nothing was founded".into()) };
    };
    if complete < needed {
        // The data of a majority is gone: to say so is all that may be done.
        let said = decision.course.as_ref().is_some_and(|course| course.blocked_by.is_some());
        return if said { Ok(()) } else { Err("the loss of the majority is not reported".into()) };
    }
    let course = decision.course.as_ref();
    if course.is_some_and(|course| course.type_ == OperationType::Frozen) {
        return Err(format!("frozen without a contradiction: {course:?}"));
    }
    let store = state.stores.len() - 1;
    let voters: Vec<_> = state.voters(store).collect();
    let synced =
        voters.iter().filter(|seat| state.slots[seat.slot].pod.as_ref().is_some_and(|pod| pod.run == Run::Synced)).count();
    if state.spec.1 == BAD || state.status.latched.is_some_and(|latched| latched.1 == BAD) {
        // A template that cannot start must stop at its first victim, and be reported.
        let spared = synced >= needed || voters.len() <= 2 || state.failures_left == 0;
        return if spared && course.is_some() { Ok(()) } else { Err("a bad template was rolled on".into()) };
    }
    if state.status.latched != Some(state.spec) {
        return Err("the spec was never taken over".into());
    }
    let right = voters.len() == usize::from(state.spec.0) && synced == voters.len() && state.status.reached == Some(state.spec);
    let outdated = state.slots.iter().filter_map(|slot| slot.pod.as_ref()).any(|pod| pod.template != state.spec.1);
    let leftovers = state.slots.iter().filter(|slot| **slot != state::Slot::default()).count() != voters.len();
    if !right || outdated || leftovers || course.is_some() {
        return Err(format!("it came to rest short of its goal: {course:?}"));
    }
    let budget = state.budget.map(usize::from);
    if budget != Some(quorum(voters.len()))
        || !voters.iter().all(|seat| state.slots[seat.slot].pod.as_ref().is_some_and(|p| p.counted))
    {
        return Err("the disruption budget was left behind".into());
    }
    Ok(())
}

/// Without failures every way ends: a circle is a way along which the operator would act for ever.
fn goes_in_no_circle(seen: &[Seen]) {
    const NEW: u8 = 0;
    const OPEN: u8 = 1;
    const DONE: u8 = 2;
    let mut mark = vec![NEW; seen.len()];
    for root in 0..seen.len() {
        let mut path = vec![(root as u32, 0usize)];
        while let Some((at, tried)) = path.last_mut() {
            if *tried == 0 {
                match mark[*at as usize] {
                    NEW => mark[*at as usize] = OPEN,
                    _ => {
                        path.pop();
                        continue;
                    }
                }
            }
            let Some(to) = seen[*at as usize].onward.get(*tried).copied() else {
                mark[*at as usize] = DONE;
                path.pop();
                continue;
            };
            *tried += 1;
            match mark[to as usize] {
                OPEN => {
                    let circle: Vec<_> =
                        path.iter().skip_while(|(at, _)| *at != to).map(|(at, _)| &*seen[*at as usize].by).collect();
                    panic!("a circle:\n  {}\nreached by\n{}", circle.join("\n  "), story(seen, to));
                }
                NEW => path.push((to, 0)),
                _ => {}
            }
        }
    }
}

/// Equal for worlds that differ only in which numbers were given out.
fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.renumbered().hash(&mut hasher);
    hasher.finish()
}

fn story(seen: &[Seen], mut at: u32) -> String {
    let mut lines = Vec::new();
    while at != 0 {
        lines.push(format!("  {}", seen[at as usize].by));
        at = seen[at as usize].from;
    }
    lines.reverse();
    lines.join("\n")
}

fn fail(seen: &[Seen], at: u32, rule: &str, state: &State) -> ! {
    panic!("{rule}\n{}\n{state:#?}", story(seen, at))
}
