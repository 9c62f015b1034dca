//! Authorities and certificates: what is issued when, and what a replacement of an authority waits for.

use super::*;
use crate::api::condition::{CERTIFICATES_READY, PROGRESSING};
use crate::api::{Leaf, OperationType, Side};
use jiff::SignedDuration;

fn authority(trust: Trust) -> Authority {
    let followed = ["a", "b", "c"].map(String::from).into();
    Authority { side: Side::Peer, trust, due: vec![], outdated: None, overlapped: true, followed }
}

fn with(authority: Authority) -> World {
    World { authorities: vec![authority], ..settled(3) }
}

fn ready(world: &World) -> (Option<bool>, &'static str) {
    let sign = plan(world).signs.into_iter().find(|sign| sign.type_ == CERTIFICATES_READY).expect("it is always there");
    (sign.status, sign.reason)
}

/// One that is good for so many days still, and ought to be renewed five days before its end.
fn good(world: &World, secret: &str, days: i32) -> Certificate {
    let day = SignedDuration::from_hours(24);
    let until = world.now + day * days;
    Certificate { secret: secret.into(), until, overdue: until - day * 5 }
}

#[test]
fn a_new_cluster_has_certificates_before_its_first_member() {
    let mut world = settled(3);
    world.members.clear();
    world.store = Store::Silent("nobody".into());
    (world.cluster.latched, world.cluster.reached, world.cluster.id, world.cluster.token) = (None, None, None, None);
    let missing = Obstacle { to: Need::Certificates, why: "Secret c-peer-tls is not there yet".into() };
    world.in_the_way = vec![missing];
    world.authorities = vec![authority(Trust::Nobody)];
    assert_eq!(acts(&world), Action::Turn { side: Side::Peer, turn: Turn::Found });
    world.authorities = vec![Authority { due: vec![Leaf::Peer], ..authority(Trust::One) }];
    assert_eq!(acts(&world), Action::Issue { leaf: Leaf::Peer });
    assert_eq!(ready(&world), (Some(false), "CertificateMissing"));
    world.authorities = vec![authority(Trust::One)];
    assert!(waits(&world).contains("not there yet"), "no member is made before it is");
    world.in_the_way.clear();
    assert!(matches!(acts(&world), Action::CreateMember { .. }));
}

#[test]
fn cert_manager_is_asked_before_the_first_member_unless_its_object_is_somebody_elses() {
    let mut world = settled(1);
    world.outdated = vec![Surrounding::Certificate(Leaf::Server)];
    assert_eq!(acts(&world), Action::Apply(Surrounding::Certificate(Leaf::Server)));
    let to = Need::Object(Surrounding::Certificate(Leaf::Server));
    world.in_the_way = vec![Obstacle { to, why: "Certificate c-server-tls was not made for this cluster".into() }];
    assert!(waits(&world).contains("was not made for this cluster"));
}

#[test]
fn members_are_healed_before_certificates_are_renewed_and_certificates_while_members_are_waited_for() {
    let mut world = with(Authority { due: vec![Leaf::Peer], ..authority(Trust::One) });
    world.down("b");
    world.m("b").pod = None;
    assert_eq!(acts(&world), Action::CreatePod { name: "b".into(), start: Start::Existing });
    world.m("b").pod = Some(Pod { ready: false, ..pod() });
    assert_eq!(acts(&world), Action::Issue { leaf: Leaf::Peer });
}

#[test]
fn an_authority_is_replaced_in_three_steps() {
    let turn = |authority| acts(&with(authority));
    let due = Some("as annotation keelson.dev/rotate-ca=1 asks".to_string());
    assert_eq!(
        turn(Authority { outdated: due.clone(), ..authority(Trust::One) }),
        Action::Turn { side: Side::Peer, turn: Turn::Trust }
    );
    assert_eq!(turn(authority(Trust::Next)), Action::Turn { side: Side::Peer, turn: Turn::Sign });
    assert_eq!(turn(authority(Trust::Former)), Action::Turn { side: Side::Peer, turn: Turn::Drop });
    // Certificates first: a step is over when all of them are as it wants them.
    let unfinished = Authority { due: vec![Leaf::Peer], outdated: due, ..authority(Trust::Next) };
    assert_eq!(turn(unfinished), Action::Issue { leaf: Leaf::Peer });
    rests(&with(authority(Trust::One)));
}

#[test]
fn no_step_is_taken_before_every_member_has_followed_the_last_one() {
    for (trust, says) in
        [(Trust::Next, "c does not trust the new one yet"), (Trust::Former, "c does not show what the new one signed")]
    {
        let followed = ["a", "b"].map(String::from).into();
        let world = with(Authority { followed, ..authority(trust) });
        assert!(waits(&world).contains(says), "{}", waits(&world));
        assert_eq!(plan(&world).course.map(|course| course.type_), Some(OperationType::RotateCA));
        assert_eq!(
            ready(&World { certificates: vec![good(&world, "c-peer-tls", 60)], ..world }),
            (Some(true), "AuthorityReplaced")
        );
    }
}

#[test]
fn clients_are_handed_what_a_step_brings_before_the_next_one() {
    let mut world = with(authority(Trust::Next));
    world.outdated = vec![Surrounding::Connection];
    assert_eq!(acts(&world), Action::Apply(Surrounding::Connection));
}

#[test]
fn clients_are_given_their_time_without_anything_being_called_unfinished() {
    let world = with(Authority { overlapped: false, ..authority(Trust::Next) });
    rests(&world);
    let progressing = plan(&world).signs.into_iter().find(|sign| sign.type_ == PROGRESSING).unwrap();
    assert_eq!(progressing.reason, "Settled");
}

#[test]
fn a_pause_leaves_certificates_as_they_are_and_says_when_they_end() {
    let mut world = with(Authority { due: vec![Leaf::Peer], ..authority(Trust::One) });
    world.cluster.paused = true;
    world.certificates = vec![good(&world, "c-peer-tls", 3), good(&world, "c-peer-ca", 3000)];
    assert_eq!(plan(&world).action, None);
    assert_eq!(ready(&world), (Some(false), "CertificateEndsSoon"));
}

#[test]
fn the_first_certificate_to_end_speaks_for_all() {
    let mut world = settled(3);
    assert_eq!(ready(&world), (Some(true), "PlainText"));
    world.certificates = vec![good(&world, "theirs", 60)];
    assert_eq!(ready(&world), (Some(true), "CertificatesGood"));
    world.certificates.push(good(&world, "ours", -1));
    assert_eq!(ready(&world), (Some(false), "CertificateExpired"));
}
