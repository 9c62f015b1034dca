//! The worlds that are explored with every test run.

use super::state::{BAD, State};
use super::{Failing, Scope, Turn, explore, settled};
use crate::plan::{Action, Decision, World, plan};

/// `at_least`, so that a scope which suddenly explores nothing is noticed.
fn explores(at_least: usize, scope: &Scope) {
    let begun = std::time::Instant::now();
    let worlds = explore(scope);
    println!("{worlds} worlds in {:?}", begun.elapsed());
    assert!(worlds >= at_least, "only {worlds} worlds: the scope does not do what it is for");
}

/// A cluster at rest, after which so many failures, edits and crashes happen.
fn at_rest(replicas: u8, slots: usize, failures: u8, edits: u8, crashes: u8) -> State {
    let rested = settled(State::new(replicas, slots, 0, 0, 0));
    State { failures_left: failures, edits_left: edits, crashes_left: crashes, ..rested }
}

#[test]
fn one_member_is_founded_through_failures_and_crashes() {
    explores(3_000, &Scope::new(State::new(1, 5, 3, 0, 3), &[]));
}

#[test]
fn three_members_come_up_through_any_failure_and_crashes() {
    explores(15_000, &Scope::new(State::new(3, 5, 1, 0, 2), &[]));
}

#[test]
fn three_members_heal_from_failures_and_crashes() {
    explores(15_000, &Scope::new(at_rest(3, 5, 2, 0, 1), &[]));
}

#[test]
fn five_members_heal_from_two_lost_nodes_and_a_crash() {
    let scope = Scope { failing: Failing::Nodes, ..Scope::new(at_rest(5, 7, 2, 0, 1), &[]) };
    explores(5_000, &scope);
}

#[test]
fn one_grows_to_three_and_back_through_any_failure_and_crash() {
    explores(15_000, &Scope::new(at_rest(1, 5, 1, 2, 1), &[(1, 1), (3, 1)]));
}

#[test]
fn five_shrink_through_a_lost_node_and_a_crash() {
    let scope = Scope { failing: Failing::Nodes, ..Scope::new(at_rest(5, 6, 1, 1, 1), &[(3, 1)]) };
    explores(3_000, &scope);
}

#[test]
fn a_roll_ends_or_halts_at_a_bad_template_whatever_people_do() {
    explores(5_000, &Scope::new(at_rest(3, 4, 0, 3, 1), &[(3, 1), (3, 2), (3, BAD)]));
}

#[test]
fn a_roll_survives_any_failure_and_a_crash() {
    explores(15_000, &Scope::new(at_rest(3, 5, 1, 1, 1), &[(3, 2)]));
}

#[test]
fn size_and_template_change_together_through_any_failure() {
    explores(15_000, &Scope::new(at_rest(3, 5, 1, 2, 0), &[(3, 1), (1, 2), (3, BAD)]));
}

#[test]
fn a_pause_at_any_moment_leaves_everything_as_it_is_and_ends_well() {
    let pausing = |start, specs| Scope { turns: &[Turn::Pause], ..Scope::new(start, specs) };
    explores(500, &pausing(at_rest(3, 4, 1, 2, 0), &[]));
    explores(300, &pausing(at_rest(1, 4, 0, 3, 1), &[(1, 1), (3, 1)]));
    explores(300, &pausing(at_rest(3, 4, 0, 3, 0), &[(3, 1), (3, 2)]));
}

#[test]
fn a_deletion_at_any_moment_takes_what_it_was_asked_to_and_ends() {
    let deleting = |start| Scope { turns: &[Turn::Deletion], ..Scope::new(start, &[]) };
    explores(500, &deleting(at_rest(3, 4, 1, 3, 0)));
    explores(300, &deleting(at_rest(1, 3, 1, 3, 1)));
    explores(300, &deleting(State::new(1, 3, 1, 2, 1)));
}

#[test]
fn members_that_are_not_heard_are_not_given_up_nor_others_at_their_cost() {
    let silent = |start, specs| Scope { failing: Failing::Silence, ..Scope::new(start, specs) };
    explores(500, &silent(at_rest(3, 5, 2, 0, 1), &[]));
    explores(500, &silent(at_rest(3, 5, 2, 1, 0), &[(3, 2)]));
    explores(500, &silent(at_rest(3, 4, 1, 1, 1), &[(1, 1)]));
    explores(300, &silent(State::new(3, 5, 1, 0, 1), &[]));
}

/// Minutes each: part of `make soak`.
#[test]
#[ignore = "explores for minutes"]
fn larger_worlds() {
    explores(300_000, &Scope::new(at_rest(5, 6, 1, 1, 0), &[(1, 1), (3, 1)]));
    explores(300_000, &Scope::new(at_rest(3, 7, 1, 1, 0), &[(3, 1), (1, 2), (3, BAD), (5, 2)]));
    explores(300_000, &Scope::new(at_rest(3, 5, 2, 1, 1), &[(3, 2)]));
}

/// A planner that takes "running" for "caught up", as one that looks at pods only would.
fn hasty(world: &World) -> Decision {
    let mut rosy = world.clone();
    for member in rosy.members.values_mut() {
        member.pod.iter_mut().for_each(|pod| pod.ready = true);
        member.word.iter_mut().for_each(|word| word.applied = word.last);
    }
    plan(&rosy)
}

#[test]
#[should_panic(expected = "a learner that is not caught up is promoted")]
fn the_exploration_catches_a_planner_that_does_not_wait() {
    explore(&Scope { planner: hasty, ..Scope::new(State::new(3, 4, 0, 0, 0), &[]) });
}

/// A planner that remembers nothing beyond what it sees.
fn forgetful(world: &World) -> Decision {
    let decision = plan(world);
    let action = decision.action.filter(|action| !matches!(action, Action::Record { .. }));
    Decision { action, ..decision }
}

#[test]
#[should_panic(expected = "nothing was founded")]
fn the_exploration_catches_a_planner_that_gets_stuck() {
    explore(&Scope { planner: forgetful, ..Scope::new(State::new(1, 2, 0, 0, 0), &[]) });
}
