//! Rule 16: whatever is wrong reaches a condition.

use super::*;
use crate::api::condition::{AVAILABLE, DEGRADED, DISRUPTIBLE, PROGRESSING, QUORUM_LOST, STORAGE_HEALTHY};

fn status(world: &World, type_: &str) -> (Option<bool>, &'static str) {
    let sign = plan(world).signs.into_iter().find(|sign| sign.type_ == type_).expect("every condition is always there");
    assert!(!sign.message.is_empty());
    (sign.status, sign.reason)
}

#[test]
fn a_settled_cluster_has_nothing_to_complain_of() {
    let world = settled(3);
    assert_eq!(status(&world, AVAILABLE), (Some(true), "QuorumAnswers"));
    assert_eq!(status(&world, PROGRESSING), (Some(false), "Settled"));
    assert_eq!(status(&world, DEGRADED), (Some(false), "AllHealthy"));
    assert_eq!(status(&world, QUORUM_LOST), (Some(false), "QuorumAnswers"));
    assert_eq!(status(&world, STORAGE_HEALTHY), (Some(true), "VolumesIntact"));
    assert_eq!(status(&world, DISRUPTIBLE), (Some(true), "MajorityStays"));
}

#[test]
fn a_lost_quorum_is_told_from_an_election() {
    let mut world = settled(3);
    world.silent();
    assert_eq!(status(&world, QUORUM_LOST), (None, "Unknown"));
    world.down("b");
    world.down("c");
    assert_eq!(status(&world, QUORUM_LOST), (Some(true), "TooFewMembers"));
    assert_eq!(status(&world, AVAILABLE), (Some(false), "NoQuorum"));
}

#[test]
fn members_that_only_this_operator_does_not_hear_are_no_lost_quorum() {
    let mut world = settled(3);
    world.silent();
    world.members.values_mut().for_each(|member| member.word = None);
    assert_eq!(status(&world, QUORUM_LOST), (None, "Unknown"));
    assert_eq!(status(&world, AVAILABLE), (None, "Unknown"));
    world.down("b");
    world.down("c");
    assert_eq!(status(&world, QUORUM_LOST), (Some(true), "TooFewMembers"));
}

#[test]
fn a_single_member_is_said_to_block_drains() {
    assert_eq!(status(&settled(1), DISRUPTIBLE), (Some(false), "SingleMember"));
}

#[test]
fn a_full_store_and_a_lost_volume_are_storage_trouble() {
    let mut world = settled(3);
    world.m("b").word.as_mut().unwrap().alarms = vec![Alarm::NoSpace];
    assert_eq!(status(&world, STORAGE_HEALTHY), (Some(false), "NoSpace"));
    let mut world = settled(3);
    world.m("b").volume.as_mut().unwrap().state = VolumeState::Lost;
    assert_eq!(status(&world, STORAGE_HEALTHY), (Some(false), "VolumeLost"));
}

#[test]
fn what_the_store_says_when_it_ends_is_told_from_a_crash() {
    let told = |exit, type_| {
        let mut world = settled(3);
        world.down("b");
        let pod = world.m("b").pod.as_mut().unwrap();
        (pod.exit, pod.trouble) = (exit, Some("CrashLoopBackOff: back-off".into()));
        status(&world, type_)
    };
    assert_eq!(told(Some(Exit::Corrupt), STORAGE_HEALTHY), (Some(false), "DataDamaged"));
    assert_eq!(told(Some(Exit::DataGone), STORAGE_HEALTHY), (Some(false), "DataGone"));
    assert_eq!(told(Some(Exit::Removed), STORAGE_HEALTHY), (Some(true), "VolumesIntact"));
    assert_eq!(told(Some(Exit::Removed), DEGRADED), (Some(true), "MemberRemoved"));
    assert_eq!(told(None, DEGRADED), (Some(true), "PodInTrouble"));
    assert_eq!(told(None, STORAGE_HEALTHY), (Some(true), "VolumesIntact"));
}

#[test]
fn a_volume_that_cannot_be_made_is_named_before_the_pod_that_waits_for_it() {
    let mut world = settled(3);
    world.down("b");
    world.m("b").volume.as_mut().unwrap().trouble = Some("StorageClass fast does not exist".into());
    world.m("b").pod.as_mut().unwrap().trouble = Some("no node takes it".into());
    assert_eq!(status(&world, STORAGE_HEALTHY), (Some(false), "NoVolume"));
    assert!(waits(&world).contains("StorageClass fast does not exist"));
}

#[test]
fn every_reason_is_explained_to_those_who_meet_it() {
    const TOLD: &str = include_str!("../../../../../docs/conditions.md");
    const SOURCES: [&str; 2] = [include_str!("../report.rs"), include_str!("../world.rs")];
    // A reason is one word in quotes that begins with a capital letter; nothing else there is.
    let words = SOURCES.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    let is_reason = |word: &&str| word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphanumeric);
    let reasons: Vec<_> = words.filter(is_reason).collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    for reason in reasons {
        assert!(TOLD.contains(&format!("`{reason}`")), "docs/conditions.md does not say what {reason} means");
    }
}

#[test]
fn what_is_in_the_way_is_reported_also_when_no_member_is_kept_from_working() {
    let mut world = settled(3);
    world.in_the_way = vec![Obstacle { to: Need::Budget, why: "PodDisruptionBudget c was not made for this cluster".into() }];
    assert_eq!(status(&world, DEGRADED), (Some(true), "InTheWay"));
    assert_eq!(status(&world, PROGRESSING), (Some(true), "Waiting"));
}

#[test]
fn what_takes_too_long_is_reported_as_stuck_and_still_waited_for() {
    let mut world = settled(3);
    world.down("b");
    let type_ = plan(&world).course.unwrap().type_;
    let deadline = world.now;
    world.cluster.operation = Some(Ongoing { type_, member: Some("b".into()), deadline });
    assert_eq!(status(&world, PROGRESSING), (Some(false), "DeadlineExceeded"));
    world.cluster.operation.as_mut().unwrap().member = Some("c".into());
    assert_eq!(status(&world, PROGRESSING), (Some(true), "Waiting"));
}
