//! Rules 4, 6, 7 and 8: restart is not replace, nothing is destroyed without a quorum, contradictions freeze.

use jiff::SignedDuration;

use super::*;

#[test]
fn a_settled_cluster_is_left_alone() {
    for size in [1, 3, 5] {
        rests(&settled(size));
        assert!(plan(&settled(size)).reached);
    }
}

#[test]
fn a_deleted_or_ended_pod_is_made_again_on_its_volume() {
    let mut world = settled(3);
    world.down("b");
    world.m("b").pod.as_mut().unwrap().phase = Phase::Ended;
    assert_eq!(acts(&world), Action::DeletePod { name: "b".into() });
    world.m("b").pod = None;
    assert_eq!(acts(&world), Action::CreatePod { name: "b".into(), start: Start::Existing });
}

#[test]
fn crashing_pending_and_terminating_pods_are_waited_for() {
    for phase in [Phase::Live, Phase::Terminating] {
        let mut world = settled(3);
        world.down("b");
        let pod = world.m("b").pod.as_mut().unwrap();
        (pod.phase, pod.trouble) = (phase, Some("CrashLoopBackOff: OOMKilled".into()));
        assert!(waits(&world).contains("OOMKilled"));
    }
}

type Loss = fn(&mut World);

/// Every way in which a volume is lost.
fn losses() -> Vec<(&'static str, Loss)> {
    vec![
        ("gone", |w| w.m("b").volume = None),
        ("lost", |w| w.m("b").volume.as_mut().unwrap().state = VolumeState::Lost),
        ("another", |w| w.m("b").volume.as_mut().unwrap().uid = "another".into()),
        ("data gone", |w| w.m("b").pod.as_mut().unwrap().exit = Some(Exit::DataGone)),
        ("corrupt", |w| w.m("b").pod.as_mut().unwrap().exit = Some(Exit::Corrupt)),
        ("unreachable", |w| {
            let since = w.now - SignedDuration::from_secs(300);
            w.m("b").volume.as_mut().unwrap().state = VolumeState::Unreachable(since);
        }),
    ]
}

#[test]
fn a_member_whose_volume_is_lost_is_removed_to_be_added_anew() {
    for (what, lose) in losses() {
        let mut world = settled(3);
        world.down("b");
        lose(&mut world);
        assert_eq!(acts(&world), Action::Count { name: "b".into(), counted: false }, "{what}");
        world.m("b").pod.as_mut().unwrap().counted = false;
        assert_eq!(acts(&world), Action::RemoveMember { id: id(1) }, "{what}");
    }
}

#[test]
fn a_member_that_crashes_or_was_removed_keeps_its_volume() {
    for exit in [None, Some(Exit::Removed)] {
        let mut world = settled(3);
        world.down("b");
        world.m("b").pod.as_mut().unwrap().exit = exit;
        assert_eq!(plan(&world).action, None, "{exit:?}");
    }
}

#[test]
fn a_member_that_answers_is_never_taken_for_lost() {
    for (what, lose) in losses() {
        let mut world = settled(3);
        lose(&mut world);
        let action = plan(&world).action;
        assert_eq!(action, None, "{what}");
    }
}

#[test]
fn an_unreachable_volume_gets_its_time() {
    let mut world = settled(3);
    world.down("b");
    world.m("b").pod = None;
    let since = world.now - SignedDuration::from_secs(299);
    world.m("b").volume.as_mut().unwrap().state = VolumeState::Unreachable(since);
    assert!(waits(&world).contains("b does not answer"));
}

#[test]
fn a_replacement_waits_for_steady_voters_and_a_node() {
    let mut world = settled(3);
    world.down("b");
    world.m("b").volume = None;
    world.m("c").word.as_mut().unwrap().healthy_for = STEADY / 2;
    assert!(waits(&world).contains("healthy for 5 seconds"));
    world.m("c").word.as_mut().unwrap().healthy_for = STEADY;
    world.unschedulable = Some("no node is free".into());
    assert!(waits(&world).contains("no node is free"));
}

#[test]
fn two_of_five_are_removed_one_by_one_before_any_is_added() {
    let mut world = settled(5);
    for name in ["b", "c"] {
        world.down(name);
        (world.m(name).volume, world.m(name).pod) = (None, None);
    }
    assert_eq!(acts(&world), Action::RemoveMember { id: id(1) });
    world.list().remove(1);
    world.members.remove("b");
    assert_eq!(acts(&world), Action::RemoveMember { id: id(2) });
    world.list().remove(1);
    world.members.remove("c");
    assert!(matches!(acts(&world), Action::CreateMember { origin: Origin::Added, .. }));
}

#[test]
fn without_a_quorum_only_pods_that_do_not_work_are_made_again() {
    let mut world = settled(3);
    world.silent();
    world.down("b");
    world.down("c");
    (world.m("b").volume, world.m("b").pod) = (None, None);
    assert!(waits(&world).contains("its volume is gone"));
    world.m("c").pod = None;
    assert_eq!(acts(&world), Action::CreatePod { name: "c".into(), start: Start::Existing });
    world.m("c").pod = Some(Pod { ready: false, trouble: Some("ErrImagePull".into()), ..pod() });
    world.cluster.wanted.digest = "mended".into();
    assert_eq!(acts(&world), Action::DeletePod { name: "c".into() });
    world.m("c").pod = Some(pod());
    assert!(waits(&world).contains("answer"));
}

#[test]
fn two_cluster_ids_or_a_corrupt_alarm_freeze_everything() {
    let mut world = settled(3);
    world.m("b").pod = None;
    world.m("b").word = None;
    world.m("c").word.as_mut().unwrap().cluster_id = ClusterId(0xbad);
    assert!(waits(&world).contains("two different stores"));
    assert_eq!(plan(&world).cluster_id, None);
    world.m("c").word = Some(Word { alarms: vec![Alarm::Corrupt], ..word(2) });
    assert!(waits(&world).contains("CORRUPT"));
    world.m("c").word = Some(word(2));
    world.m("c").volume.as_mut().unwrap().token = Some("other".into());
    assert!(waits(&world).contains("volumes of two different stores"));
}

#[test]
fn two_members_of_one_id_freeze_everything() {
    let mut world = settled(3);
    world.m("c").word.as_mut().unwrap().member_id = id(1);
    assert!(waits(&world).contains("b and c are both member 2"));
    // Not only while both run.
    let mut world = settled(3);
    let copy = Member { volume: Some(Volume { uid: "copy".into(), ..volume(1) }), ..Member::default() };
    world.members.insert("restored".into(), copy);
    assert!(waits(&world).contains("b and restored are both member 2"));
}

#[test]
fn a_paused_cluster_is_not_touched() {
    let mut world = settled(3);
    world.m("b").pod = None;
    world.cluster.paused = true;
    world.cluster.finalizer = true;
    rests(&world);
    assert!(!plan(&world).reached);
}

fn theirs(to: Need) -> Obstacle {
    Obstacle { why: format!("{to:?} is somebody else's"), to }
}

const FOR_OTHERS: [Need; 4] =
    [Need::Object(Surrounding::ClientService), Need::Object(Surrounding::Connection), Need::Budget, Need::Nodes];

#[test]
fn nothing_is_begun_under_names_that_belong_to_somebody_else() {
    for need in FOR_OTHERS {
        let mut world = settled(3);
        (world.cluster.id, world.m("b").pod) = (None, None);
        world.in_the_way = vec![theirs(need)];
        assert!(waits(&world).contains("somebody else's"));
    }
}

#[test]
fn what_is_in_the_way_of_others_keeps_no_member_from_being_healed() {
    for need in FOR_OTHERS {
        let mut world = settled(3);
        world.outdated = vec![Surrounding::ClientService, Surrounding::Connection];
        world.budget = (need != Need::Budget).then_some(2);
        world.in_the_way = vec![theirs(need)];
        world.down("b");
        world.m("b").pod = None;
        assert_eq!(acts(&world), Action::CreatePod { name: "b".into(), start: Start::Existing });
        world.m("b").volume = None;
        assert_eq!(acts(&world), Action::RemoveMember { id: id(1) });
        world.list().remove(1);
        world.members.remove("b");
        assert!(matches!(acts(&world), Action::CreateMember { origin: Origin::Added, .. }));
    }
}

#[test]
fn what_is_somebody_elses_is_named_and_never_applied() {
    for need in FOR_OTHERS {
        let mut world = settled(3);
        match need {
            Need::Object(object) => world.outdated = vec![object],
            Need::Budget => world.budget = None,
            _ => {}
        }
        world.in_the_way = vec![theirs(need)];
        assert!(waits(&world).contains("somebody else's"));
    }
}

#[test]
fn what_clients_use_is_mended_while_a_member_is_waited_for() {
    let mut world = settled(3);
    world.down("b");
    world.outdated = vec![Surrounding::ClientService];
    assert_eq!(acts(&world), Action::Apply(Surrounding::ClientService));
    world.outdated.clear();
    world.m("c").volume.as_mut().unwrap().kept = Some(false);
    assert_eq!(acts(&world), Action::KeepVolume { name: "c".into() });
}

#[test]
fn members_that_could_not_work_are_not_added_nor_healthy_ones_taken_down() {
    for need in [Need::Object(Surrounding::PeerService), Need::Certificates] {
        let mut world = settled(3);
        world.in_the_way = vec![theirs(need.clone())];
        world.cluster.wanted.digest = "new".into();
        assert!(waits(&world).contains("somebody else's"), "{need:?}");
        world.cluster.wanted = Goal { replicas: 5, ..world.cluster.latched.clone().unwrap() };
        world.budget = Some(3);
        assert!(waits(&world).contains("somebody else's"), "{need:?}");
        world = settled(3);
        world.in_the_way = vec![theirs(need)];
        world.down("b");
        world.m("b").volume = None;
        world.m("b").pod = None;
        assert!(waits(&world).contains("another member could not run"));
    }
}

#[test]
fn a_volume_is_adopted_when_the_member_of_before_is_gone() {
    let mut world = settled(3);
    world.m("b").object = None;
    world.in_the_way = vec![theirs(Need::Member("b".into()))];
    assert!(waits(&world).contains("somebody else's"));
    world.in_the_way.clear();
    assert!(matches!(acts(&world), Action::CreateMember { origin: Origin::Adopted, .. }));
}

#[test]
fn what_is_slow_to_go_keeps_nobody_from_being_healed() {
    let mut world = settled(3);
    let pod = Pod { phase: Phase::Terminating, ready: false, counted: false, ..pod() };
    let gone = Member { object: Some(object(3)), volume: Some(volume(3)), pod: Some(pod), word: None };
    world.members.insert("d".into(), gone);
    assert_eq!(acts(&world), Action::DeleteVolume { name: "d".into() });
    world.m("d").volume.as_mut().unwrap().state = VolumeState::Deleting;
    assert!(waits(&world).contains("pod d is still terminating"));
    world.down("b");
    (world.m("b").volume, world.m("b").pod) = (None, None);
    assert_eq!(acts(&world), Action::RemoveMember { id: id(1) });
    world.list().remove(1);
    world.members.remove("b");
    assert!(matches!(acts(&world), Action::CreateMember { origin: Origin::Added, .. }));
}

#[test]
fn only_a_recorded_id_that_the_list_lacks_is_cleaned_up() {
    let mut world = settled(3);
    world.list().remove(1);
    world.down("b");
    assert_eq!(acts(&world), Action::DeletePod { name: "b".into() });
    world.silent();
    assert!(plan(&world).action.is_none());
}

#[test]
fn nobody_is_cleaned_up_after_who_still_follows_a_leader() {
    let mut world = settled(3);
    world.list().remove(1);
    assert!(waits(&world).contains("still answers and follows a leader"));
}

#[test]
fn a_list_that_lacks_several_members_is_not_believed() {
    let mut world = settled(3);
    world.list().truncate(1);
    world.down("b");
    world.down("c");
    assert!(waits(&world).contains("the member list lacks b and c"));
}

#[test]
fn an_id_is_not_matched_by_name() {
    // Somebody removed b and added another under its name: the volume of the old one is of no use to it.
    let mut world = settled(3);
    world.list()[1].id = MemberId(99);
    world.down("b");
    assert_eq!(acts(&world), Action::DeletePod { name: "b".into() });
}

#[test]
fn a_volume_on_its_way_out_is_not_kept_again() {
    let mut world = settled(3);
    world.m("b").volume.as_mut().unwrap().kept = Some(false);
    assert_eq!(acts(&world), Action::KeepVolume { name: "b".into() });
    world.m("b").volume.as_mut().unwrap().state = VolumeState::Deleting;
    assert_ne!(plan(&world).action, Some(Action::KeepVolume { name: "b".into() }));
}
