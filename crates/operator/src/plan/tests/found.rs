//! Mistakes of earlier planners, each found by the exploration.

use super::*;

/// A cluster whose seed has just founded a store that is not recorded anywhere.
fn unrecorded() -> World {
    let mut world = settled(1);
    (world.cluster.id, world.cluster.reached, world.budget) = (None, None, None);
    world.m("a").object = Some(Object { id: None, cluster_id: None, initial_cluster: None, ..object(0) });
    world.m("a").volume = Some(Volume { member_id: None, cluster_id: None, ..volume(0) });
    world
}

#[test]
fn a_seed_whose_first_data_is_corrupt_is_not_started_for_ever() {
    let mut world = unrecorded();
    world.silent();
    world.down("a");
    world.m("a").pod.as_mut().unwrap().exit = Some(Exit::Corrupt);
    // The volume first: with the pod, the report would be gone.
    assert_eq!(acts(&world), Action::DeleteVolume { name: "a".into() });
    world.m("a").volume.as_mut().unwrap().state = VolumeState::Deleting;
    assert_eq!(acts(&world), Action::DeletePod { name: "a".into() });
}

#[test]
fn the_status_does_not_know_of_a_store_before_its_volume_does() {
    let mut world = unrecorded();
    assert_eq!(plan(&world).cluster_id, None);
    world.m("a").volume = Some(volume(0));
    assert_eq!(plan(&world).cluster_id, Some(STORE));
}

#[test]
fn clients_are_let_in_only_once_the_status_knows_the_store() {
    let mut world = settled(1);
    world.outdated = vec![Surrounding::ClientService];
    world.cluster.id = None;
    assert!(!matches!(plan(&world).action, Some(Action::Apply(_))));
}

#[test]
fn an_id_that_only_the_volume_knows_is_taken_from_there() {
    let mut world = unrecorded();
    world.silent();
    (world.m("a").pod, world.m("a").word) = (None, None);
    world.m("a").volume = Some(volume(0));
    let record = Record { identity: Some((id(0), STORE)), ..Record::default() };
    assert_eq!(acts(&world), Action::Record { name: "a".into(), record });
}

#[test]
fn an_adopted_member_whose_volume_went_before_it_was_noted_is_lost() {
    let mut world = settled(3);
    world.m("b").object = Some(Object { origin: Origin::Adopted, volume_uid: None, ..object(1) });
    world.down("b");
    (world.m("b").volume, world.m("b").pod) = (None, None);
    assert_eq!(acts(&world), Action::RemoveMember { id: id(1) });
}

#[test]
fn a_learner_without_a_volume_does_not_wait_for_a_lost_voter_nor_the_voter_for_it() {
    let mut world = settled(5);
    world.down("c");
    (world.m("c").volume, world.m("c").pod) = (None, None);
    world.list()[1].learner = true;
    world.list()[1].started = false;
    let told = "a=http://a.c-peers.ns.svc:2380,b=http://b.c-peers.ns.svc:2380,c=http://c.c-peers.ns.svc:2380,\
                d=http://d.c-peers.ns.svc:2380,e=http://e.c-peers.ns.svc:2380";
    let object = Object { volume_uid: None, initial_cluster: Some(told.into()), ..object(1) };
    world.members.insert("b".into(), Member { object: Some(object), ..Member::default() });
    assert_eq!(acts(&world), Action::CreateVolume { name: "b".into() });
}

#[test]
fn a_sole_volume_is_not_started_as_one_of_many_while_another_is_going() {
    let mut world = unrecorded();
    world.silent();
    (world.m("a").pod, world.m("a").word) = (None, None);
    let going = Volume { state: VolumeState::Deleting, member_id: None, cluster_id: None, ..volume(1) };
    world.members.insert("b".into(), Member { volume: Some(going), ..Member::default() });
    assert_eq!(plan(&world).action, None);
    world.members.remove("b");
    assert_eq!(acts(&world), Action::CreatePod { name: "a".into(), start: Start::New });
}
