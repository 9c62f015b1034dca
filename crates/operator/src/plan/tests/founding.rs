//! Rules 2, 5 and 11: one seed, adoption before founding, identity by id, volumes that stay.

use super::*;
use crate::api::condition::{AVAILABLE, DEGRADED, QUORUM_LOST};

/// A cluster that was just created.
fn empty() -> World {
    let mut world = settled(3);
    world.members.clear();
    world.store = Store::Silent("nobody".into());
    (world.cluster.latched, world.cluster.reached, world.cluster.id, world.cluster.token) = (None, None, None, None);
    world.budget = None;
    world
}

fn unrecorded() -> Object {
    Object { id: None, cluster_id: None, volume_uid: None, initial_cluster: None, ..object(0) }
}

#[test]
fn a_new_cluster_begins_with_one_seed() {
    let seed = Action::CreateMember { name: "new".into(), token: "fresh-token".into(), origin: Origin::Seed };
    assert_eq!(acts(&empty()), seed);
    assert!(plan(&empty()).latch);
}

#[test]
fn the_seed_founds_only_on_the_volume_that_was_made_for_it() {
    let mut world = empty();
    let mut seed = Member { object: Some(unrecorded()), ..Member::default() };
    world.members.insert("a".into(), seed.clone());
    assert_eq!(acts(&world), Action::CreateVolume { name: "a".into() });

    seed.volume = Some(Volume { member_id: None, cluster_id: None, ..volume(0) });
    world.members.insert("a".into(), seed.clone());
    let record = Record { volume_uid: Some("volume-0".into()), ..Record::default() };
    assert_eq!(acts(&world), Action::Record { name: "a".into(), record });

    seed.object = Some(Object { volume_uid: Some("volume-0".into()), ..unrecorded() });
    world.members.insert("a".into(), seed.clone());
    assert_eq!(acts(&world), Action::CreatePod { name: "a".into(), start: Start::New });

    seed.object = Some(Object { volume_uid: Some("another".into()), ..unrecorded() });
    world.members.insert("a".into(), seed);
    assert_eq!(acts(&world), Action::DeleteVolume { name: "a".into() });
    // A claim with that name is still going; the member follows when it is gone.
    world.m("a").volume.as_mut().unwrap().state = VolumeState::Deleting;
    assert!(waits(&world).contains("volume a is still being deleted"));
}

#[test]
fn no_process_that_could_found_again_is_left_when_clients_are_let_in() {
    let available = |world: &World| plan(world).signs.iter().find(|sign| sign.type_ == AVAILABLE).and_then(|sign| sign.status);
    let lost = |world: &World| plan(world).signs.iter().find(|sign| sign.type_ == QUORUM_LOST).and_then(|sign| sign.status);
    let mut world = settled(1);
    (world.cluster.reached, world.outdated) = (None, vec![Surrounding::ClientService]);
    world.m("a").pod.as_mut().unwrap().founds = true;
    assert_eq!(acts(&world), Action::DeletePod { name: "a".into() });
    assert_eq!(available(&world), Some(false), "it goes away once more");
    world.silent();
    world.m("a").word = None;
    world.m("a").pod.as_mut().unwrap().phase = Phase::Terminating;
    assert!(waits(&world).contains("terminating"));
    world.m("a").pod = None;
    assert_eq!(acts(&world), Action::CreatePod { name: "a".into(), start: Start::Existing });
    assert_eq!((available(&world), lost(&world)), (Some(false), Some(false)), "nobody has used it yet");
    world.m("a").pod = Some(Pod { ready: false, ..pod() });
    assert!(waits(&world).contains("a is not back yet"));
    world = settled(1);
    (world.cluster.reached, world.outdated) = (None, vec![Surrounding::ClientService]);
    assert_eq!(acts(&world), Action::Apply(Surrounding::ClientService));
}

#[test]
fn nobody_is_added_before_the_first_member_is_one_that_never_founds() {
    let mut world = settled(1);
    (world.cluster.reached, world.cluster.id, world.budget) = (None, None, None);
    (world.cluster.budget_enabled, world.outdated) = (false, vec![Surrounding::ClientService]);
    (world.cluster.latched, world.cluster.wanted.replicas) = (None, 3);
    world.m("a").pod.as_mut().unwrap().founds = true;
    assert!(waits(&world).contains("the status does not know"));
    world.cluster.id = plan(&world).cluster_id;
    assert_eq!(acts(&world), Action::DeletePod { name: "a".into() });
}

#[test]
fn a_recorded_store_is_never_founded_again() {
    let mut world = empty();
    world.cluster.id = Some(STORE);
    assert!(waits(&world).contains("every volume of this cluster is gone"));
}

#[test]
fn volumes_of_a_deleted_cluster_are_adopted_under_their_names() {
    let mut world = empty();
    world.members.insert("old".into(), Member { volume: Some(volume(0)), ..Member::default() });
    let adopt = Action::CreateMember { name: "old".into(), token: "token".into(), origin: Origin::Adopted };
    assert_eq!(acts(&world), adopt);

    world.m("old").object = Some(Object { origin: Origin::Adopted, ..unrecorded() });
    let record = Record { identity: Some((id(0), STORE)), volume_uid: Some("volume-0".into()), ..Record::default() };
    assert_eq!(acts(&world), Action::Record { name: "old".into(), record });

    world.m("old").object = Some(Object { origin: Origin::Adopted, ..object(0) });
    assert_eq!(acts(&world), Action::CreatePod { name: "old".into(), start: Start::Existing });
}

#[test]
fn an_adopted_volume_is_not_given_to_an_older_version() {
    let mut world = empty();
    world.cluster.latched = Some(world.cluster.wanted.clone());
    let newer = Volume { version: Some("1.2.0".into()), ..volume(0) };
    let object = Object { origin: Origin::Adopted, ..object(0) };
    world.members.insert("old".into(), Member { object: Some(object), volume: Some(newer), ..Member::default() });
    assert!(waits(&world).contains("set spec.version to 1.2 or newer"));
    let degraded = plan(&world).signs.into_iter().find(|sign| sign.type_ == DEGRADED).unwrap();
    assert_eq!((degraded.status, degraded.reason), (Some(true), "VersionTooOld"));
    // Nothing has come of the target that was in force, so there is no way to go from it.
    world.cluster.wanted.version = "1.2.0".into();
    assert!(plan(&world).latch);
    assert_eq!(acts(&world), Action::CreatePod { name: "old".into(), start: Start::Existing });
}

#[test]
fn a_volume_without_an_id_was_never_in_use_and_is_founded_upon_only_if_it_is_alone() {
    let mut world = empty();
    let unknown = Volume { member_id: None, cluster_id: None, ..volume(0) };
    let object = Object { origin: Origin::Adopted, volume_uid: Some("volume-0".into()), ..unrecorded() };
    world.members.insert("old".into(), Member { object: Some(object), volume: Some(unknown), ..Member::default() });
    assert_eq!(acts(&world), Action::CreatePod { name: "old".into(), start: Start::New });
    let another = world.members["old"].clone();
    world.members.insert("older".into(), another);
    assert_eq!(acts(&world), Action::CreatePod { name: "old".into(), start: Start::Existing });
}

#[test]
fn an_adopted_volume_is_never_deleted_to_start_over() {
    let mut world = empty();
    let unknown = Volume { member_id: None, cluster_id: None, ..volume(0) };
    let object = Object { origin: Origin::Adopted, volume_uid: Some("volume-0".into()), ..unrecorded() };
    let pod = Pod { ready: false, exit: Some(Exit::Corrupt), ..pod() };
    let old = Member { object: Some(object), volume: Some(unknown), pod: Some(pod), word: None };
    world.members.insert("old".into(), old);
    assert!(waits(&world).contains("delete the claim to start empty"));
    // Once somebody does, there is nothing left to keep.
    world.m("old").volume.as_mut().unwrap().state = VolumeState::Deleting;
    assert_eq!(acts(&world), Action::DeletePod { name: "old".into() });
}

#[test]
fn ids_are_recorded_from_the_list_on_volume_and_member() {
    let mut world = settled(1);
    world.m("a").object = Some(Object { volume_uid: Some("volume-0".into()), ..unrecorded() });
    let record = Record { identity: Some((id(0), STORE)), ..Record::default() };
    assert_eq!(acts(&world), Action::Record { name: "a".into(), record: record.clone() });
    // A crash between the two writes leaves one of them to do.
    world.m("a").object = Some(object(0));
    world.m("a").volume.as_mut().unwrap().member_id = None;
    assert_eq!(acts(&world), Action::Record { name: "a".into(), record });
}

#[test]
fn what_clients_use_waits_for_the_store() {
    let mut world = empty();
    world.outdated = vec![Surrounding::PeerService, Surrounding::ClientService];
    assert_eq!(acts(&world), Action::Apply(Surrounding::PeerService));
    world.outdated = vec![Surrounding::ClientService];
    assert!(matches!(acts(&world), Action::CreateMember { .. }));
    let mut world = settled(3);
    world.outdated = vec![Surrounding::ClientService];
    assert_eq!(acts(&world), Action::Apply(Surrounding::ClientService));
}

#[test]
fn retained_volumes_outlive_their_claims_and_are_not_held_by_a_finalizer() {
    let mut world = settled(3);
    world.m("b").volume.as_mut().unwrap().kept = Some(false);
    assert_eq!(acts(&world), Action::KeepVolume { name: "b".into() });
    world.cluster.finalizer = true;
    assert_eq!(acts(&world), Action::SetFinalizer(false));
    world.cluster.deleting = true;
    assert_eq!(acts(&world), Action::SetFinalizer(false));
}

#[test]
fn deletion_takes_pods_then_volumes_then_members_then_the_finalizer() {
    let mut world = settled(1);
    world.cluster.deletion_policy = DeletionPolicy::Delete;
    assert_eq!(acts(&world), Action::SetFinalizer(true));
    (world.cluster.finalizer, world.cluster.deleting, world.cluster.paused) = (true, true, true);
    assert_eq!(acts(&world), Action::DeletePod { name: "a".into() });
    world.m("a").pod.as_mut().unwrap().phase = Phase::Terminating;
    assert!(waits(&world).contains("terminating"));
    world.m("a").pod = None;
    assert_eq!(acts(&world), Action::DeleteVolume { name: "a".into() });
    world.m("a").volume = None;
    assert_eq!(acts(&world), Action::DeleteMember { name: "a".into() });
    world.members.clear();
    assert_eq!(acts(&world), Action::SetFinalizer(false));
}
