//! Rule 9: broken first, followers before the leader, gated by the store's own word.

use super::*;

fn rolling(size: usize) -> World {
    let mut world = settled(size);
    world.cluster.wanted.digest = "new".into();
    world
}

fn renewed(world: &mut World, name: &str) {
    world.m(name).pod = Some(Pod { digest: "new".into(), ..pod() });
}

#[test]
fn followers_are_renewed_one_by_one_and_the_leader_last() {
    let mut world = rolling(3);
    assert_eq!(acts(&world), Action::DeletePod { name: "b".into() });
    renewed(&mut world, "b");
    assert_eq!(acts(&world), Action::DeletePod { name: "c".into() });
    renewed(&mut world, "c");
    assert_eq!(acts(&world), Action::MoveLeader { from: id(0), to: id(1) });
    world.members.values_mut().for_each(|member| member.word.as_mut().unwrap().leader = Some(id(1)));
    assert_eq!(acts(&world), Action::DeletePod { name: "a".into() });
    renewed(&mut world, "a");
    rests(&world);
}

#[test]
fn the_next_one_waits_for_the_applied_index_and_for_ready() {
    let mut world = rolling(3);
    renewed(&mut world, "b");
    world.m("b").word.as_mut().unwrap().applied = 0;
    assert!(waits(&world).contains("member b"));
    world.m("b").word = Some(word(1));
    world.m("b").pod.as_mut().unwrap().ready = false;
    assert!(waits(&world).contains("member b"));
}

#[test]
fn a_roll_halts_at_a_member_that_does_not_come_back_and_says_why() {
    let mut world = rolling(3);
    renewed(&mut world, "b");
    world.down("b");
    world.m("b").pod.as_mut().unwrap().trouble = Some("ImagePullBackOff: no such image".into());
    assert!(waits(&world).contains("no such image"));
}

#[test]
fn volumes_are_of_the_new_version_only_when_every_member_is() {
    let mut world = rolling(3);
    (world.cluster.wanted.version, world.cluster.latched) = ("1.1.0".into(), None);
    for name in ["b", "c", "a"] {
        assert!(!matches!(acts(&world), Action::Record { .. }), "{name} is not renewed yet");
        renewed(&mut world, name);
    }
    for name in ["a", "b", "c"] {
        let record = Record { version: Some("1.1.0".into()), ..Record::default() };
        assert_eq!(acts(&world), Action::Record { name: name.into(), record });
        world.m(name).volume.as_mut().unwrap().version = Some("1.1.0".into());
    }
    rests(&world);
}

#[test]
fn broken_outdated_pods_are_renewed_before_anything_healthy() {
    let mut world = rolling(3);
    world.down("c");
    assert_eq!(acts(&world), Action::DeletePod { name: "c".into() });
}

#[test]
fn a_silent_member_that_is_ready_is_not_broken() {
    let mut world = rolling(3);
    world.m("c").word = None;
    assert!(waits(&world).contains("member c"));
}

#[test]
fn one_or_two_members_are_renewed_at_the_price_of_an_outage() {
    assert_eq!(acts(&rolling(1)), Action::DeletePod { name: "a".into() });
    assert_eq!(acts(&rolling(2)), Action::DeletePod { name: "b".into() });
}

#[test]
fn unsupported_versions_are_held_back_and_do_not_disturb() {
    let mut world = rolling(3);
    world.cluster.wanted.version = "1.9.0".into();
    let decision = plan(&world);
    assert!(!decision.latch && decision.reached && decision.action.is_none());
    assert!(decision.course.unwrap().blocked_by.unwrap().contains("1.1 first"));
}

#[test]
fn a_member_that_has_only_just_come_back_is_not_trusted_yet() {
    let mut world = rolling(3);
    renewed(&mut world, "b");
    world.m("b").word.as_mut().unwrap().healthy_for = STEADY / 2;
    assert!(waits(&world).contains("member b"));
}

#[test]
fn a_pod_that_holds_the_only_copy_of_the_data_is_not_taken_down() {
    let mut world = rolling(1);
    world.m("a").volume.as_mut().unwrap().state = VolumeState::Deleting;
    assert!(waits(&world).contains("only copy"));
    world.down("a");
    assert_eq!(plan(&world).action, None);
}

#[test]
fn of_edits_during_a_pause_only_the_last_is_taken_over() {
    let mut world = rolling(3);
    world.cluster.paused = true;
    assert!(!plan(&world).latch);
    world.cluster.paused = false;
    assert!(plan(&world).latch);
}
