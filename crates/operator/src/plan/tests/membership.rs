//! Rules 1, 3, 4 and 10: one change at a time, learners first, the budget around them.

use super::*;
use crate::api::OperationType;

fn wants(world: &mut World, replicas: usize) {
    world.cluster.wanted.replicas = replicas;
    world.budget = Some(quorum(replicas.max(world.members.len())) as i32);
}

/// A fourth member d, in the list as a learner.
fn with_learner(world: &mut World) {
    world.list().push(Listed { learner: true, started: false, ..listed(3, "d") });
    let told = "a=http://a.c-peers.ns.svc:2380,b=http://b.c-peers.ns.svc:2380,c=http://c.c-peers.ns.svc:2380,d=http://d.c-peers.ns.svc:2380";
    let object = Object { initial_cluster: Some(told.into()), ..object(3) };
    world.members.insert("d".into(), Member { object: Some(object), volume: Some(volume(3)), ..Member::default() });
}

#[test]
fn growing_creates_the_object_then_adds_the_learner_then_notes_the_list() {
    let mut world = settled(3);
    wants(&mut world, 5);
    let create = Action::CreateMember { name: "new".into(), token: "token".into(), origin: Origin::Added };
    assert_eq!(acts(&world), create);

    let fresh = Object { id: None, cluster_id: None, volume_uid: None, initial_cluster: None, ..object(3) };
    world.members.insert("d".into(), Member { object: Some(fresh.clone()), ..Member::default() });
    assert_eq!(acts(&world), Action::AddLearner { name: "d".into() });
    world.m("b").word.as_mut().unwrap().healthy_for = STEADY / 2;
    assert!(waits(&world).contains("healthy for 5 seconds"));
    world.m("b").word = Some(word(1));

    with_learner(&mut world);
    world.members.insert("d".into(), Member { object: Some(fresh), ..Member::default() });
    let Action::Record { name, record } = acts(&world) else { panic!("not recorded") };
    assert_eq!((name.as_str(), record.identity), ("d", Some((id(3), STORE))));
    assert_eq!(record.initial_cluster.unwrap().split(',').count(), 4);
}

#[test]
fn a_learner_gets_its_volume_and_pod_and_votes_when_it_has_caught_up() {
    let mut world = settled(3);
    wants(&mut world, 5);
    with_learner(&mut world);
    let d = world.m("d");
    (d.volume, d.object.as_mut().unwrap().volume_uid) = (None, None);
    assert_eq!(acts(&world), Action::CreateVolume { name: "d".into() });

    with_learner(&mut world);
    world.list().pop();
    assert_eq!(acts(&world), Action::CreatePod { name: "d".into(), start: Start::Existing });

    let behind = Word { learner: true, applied: 5000 - MAX_LAG - 1, ..word(3) };
    world.list()[3].started = true;
    let d = world.m("d");
    (d.pod, d.word) = (Some(Pod { counted: false, ..pod() }), Some(behind.clone()));
    assert!(waits(&world).contains("not caught up"));

    world.m("d").word = Some(Word { applied: 5000 - MAX_LAG, ..behind });
    assert_eq!(acts(&world), Action::Promote { name: "d".into(), id: id(3) });
    world.budget = Some(2);
    assert_eq!(acts(&world), Action::SetBudget { min_available: 3 });
    world.budget = Some(3);
    world.list()[3].learner = false;
    assert_eq!(acts(&world), Action::Count { name: "d".into(), counted: true });
}

#[test]
fn what_a_learner_is_told_follows_the_list_until_it_runs() {
    let mut world = settled(3);
    wants(&mut world, 5);
    with_learner(&mut world);
    world.m("d").pod = Some(Pod { ready: false, counted: false, initial_cluster: "stale".into(), ..pod() });
    assert_eq!(acts(&world), Action::DeletePod { name: "d".into() });
    world.m("d").object.as_mut().unwrap().initial_cluster = Some("stale".into());
    assert!(matches!(acts(&world), Action::Record { name, .. } if name == "d"));
}

#[test]
fn nothing_is_added_while_a_voter_is_down() {
    let mut world = settled(3);
    wants(&mut world, 5);
    world.down("b");
    assert!(waits(&world).contains("not healthy: b"));
}

#[test]
fn nothing_is_added_that_could_not_run() {
    let mut world = settled(3);
    wants(&mut world, 5);
    world.unschedulable = Some("no node is free".into());
    assert!(waits(&world).contains("no node is free"));
}

#[test]
fn strangers_in_the_list_are_left_alone_and_named() {
    let mut world = settled(3);
    wants(&mut world, 5);
    world.list().push(Listed { name: None, peer_url: "http://elsewhere:2380".into(), ..listed(7, "x") });
    assert!(waits(&world).contains("http://elsewhere:2380"));
}

#[test]
fn shrinking_uncounts_then_removes_then_cleans_up_then_lowers_the_budget() {
    let mut world = settled(5);
    wants(&mut world, 3);
    let Action::Count { name, counted: false } = acts(&world) else { panic!("still counted") };
    assert_ne!(name, "a", "the leader goes last");
    world.m(&name).pod.as_mut().unwrap().counted = false;
    let Action::RemoveMember { id } = acts(&world) else { panic!("not removed") };
    world.list().retain(|listed| listed.id != id);
    world.m(&name).word = None;
    assert_eq!(acts(&world), Action::DeletePod { name: name.clone() });
    world.m(&name).pod = None;
    assert_eq!(acts(&world), Action::DeleteVolume { name: name.clone() });
    world.m(&name).volume = None;
    assert_eq!(acts(&world), Action::DeleteMember { name: name.clone() });
    world.members.remove(&name);
    world.budget = Some(4);
    assert_eq!(acts(&world), Action::SetBudget { min_available: 3 });
}

#[test]
fn the_unhealthy_go_before_the_healthy_and_only_while_the_majority_stays() {
    let mut world = settled(5);
    wants(&mut world, 3);
    world.down("c");
    assert_eq!(acts(&world), Action::Count { name: "c".into(), counted: false });
    let mut world = settled(3);
    wants(&mut world, 1);
    world.down("b");
    assert_eq!(acts(&world), Action::Count { name: "b".into(), counted: false });
    // Three remain of four, and all three are needed.
    let mut world = settled(4);
    wants(&mut world, 3);
    world.down("b");
    world.down("c");
    assert!(waits(&world).contains("are needed"));
}

#[test]
fn a_learner_nobody_wants_any_more_is_removed_first() {
    let mut world = settled(3);
    with_learner(&mut world);
    world.m("d").pod = Some(Pod { counted: false, ..pod() });
    assert_eq!(acts(&world), Action::RemoveMember { id: id(3) });
    let mut world = settled(3);
    let fresh = Object { id: None, cluster_id: None, volume_uid: None, initial_cluster: None, ..object(3) };
    world.members.insert("d".into(), Member { object: Some(fresh), ..Member::default() });
    assert_eq!(acts(&world), Action::DeleteMember { name: "d".into() });
}

#[test]
fn an_edit_waits_for_the_target_in_force() {
    let mut world = settled(3);
    world.cluster.latched.as_mut().unwrap().replicas = 5;
    world.cluster.wanted = Goal { replicas: 7, ..world.cluster.wanted };
    world.budget = Some(3);
    assert!(!plan(&world).latch);
    // Back to where it was: at once.
    world.cluster.wanted.replicas = 3;
    assert!(plan(&world).latch);
    // What cannot be reached does not hold anybody up.
    world.cluster.wanted.replicas = 7;
    let deadline = world.now;
    world.cluster.operation = Some(Ongoing { type_: OperationType::ScaleUp, member: None, deadline });
    assert!(plan(&world).latch);
    world.cluster.operation = None;
    world.m("c").pod.as_mut().unwrap().trouble = Some("ImagePullBackOff".into());
    assert!(plan(&world).latch);
}

#[test]
fn switching_the_budget_off_removes_it() {
    let mut world = settled(3);
    world.cluster.budget_enabled = false;
    assert_eq!(acts(&world), Action::DeleteBudget);
    world.budget = None;
    rests(&world);
}
