//! The status that a decision amounts to, and whether it is worth a write.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::api::{CertificateState, EtcdClusterStatus, MemberState, Operation, Quorum, Role, Target, condition, label};
use crate::observe::Snapshot;
use crate::plan::{Alarm, Certificate, Decision, Member, Store, VolumeState, World, quorum};
use crate::render::Scheme;

/// After this long an operation that does not advance is reported as stuck.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// How often lag and sizes alone may be written.
pub const FIGURES: Duration = Duration::from_secs(60);

pub fn compose(snapshot: &Snapshot, world: &World, decision: &Decision, wanted: &Target) -> EtcdClusterStatus {
    let old = snapshot.cluster.status.clone().unwrap_or_default();
    let generation = snapshot.cluster.metadata.generation;
    let target = if decision.latch { Some(wanted.clone()) } else { refreshed(old.target.clone(), wanted) };
    let reached = if decision.reached { target.as_ref().map(Target::reached) } else { old.reached.clone() };
    let quorum = counted(world);
    EtcdClusterStatus {
        observed_generation: generation,
        replicas: quorum.map_or(old.replicas, |quorum| quorum.voters),
        selector: Some(format!("{}={}", label::CLUSTER, snapshot.names.cluster)),
        cluster_id: decision.cluster_id.map(|id| id.to_string()).or(old.cluster_id),
        cluster_token: decision.token.clone().or(old.cluster_token),
        operation: operation(old.operation.as_ref(), world, decision),
        members: world.members.iter().map(|(name, member)| state(snapshot, world, name, member)).collect(),
        quorum: quorum.or(old.quorum),
        endpoints: vec![snapshot.names.endpoint(Scheme::of(snapshot.certificates.is_some()))],
        certificates: world.certificates.iter().map(certificate).collect(),
        conditions: condition::merge(&old.conditions, &decision.signs, generation, world.now),
        target,
        reached,
    }
}

/// The same target under a newer generation is the same target.
fn refreshed(latched: Option<Target>, wanted: &Target) -> Option<Target> {
    let same = |target: &Target| target.reached() == wanted.reached() && target.version == wanted.version;
    latched.map(|target| if same(&target) { wanted.clone() } else { target })
}

/// True if `new` says something that `old` does not, figures apart.
pub fn differs(old: &EtcdClusterStatus, new: &EtcdClusterStatus) -> bool {
    let plain = |status: &EtcdClusterStatus| {
        let mut status = status.clone();
        for member in &mut status.members {
            (member.raft_lag, member.db_size, member.in_use) = (None, None, None);
        }
        status
    };
    plain(old) != plain(new)
}

fn operation(old: Option<&Operation>, world: &World, decision: &Decision) -> Option<Operation> {
    let course = decision.course.as_ref()?;
    let same = old.filter(|old| old.type_ == course.type_ && old.member == course.member);
    let started_at = same.map_or(Time(world.now), |old| old.started_at.clone());
    Some(Operation {
        type_: course.type_,
        step: course.step.clone(),
        member: course.member.clone(),
        deadline: Time(started_at.0 + PATIENCE),
        started_at,
        blocked_by: course.blocked_by.clone(),
    })
}

fn counted(world: &World) -> Option<Quorum> {
    let Store::Listed { list, .. } = &world.store else {
        return None;
    };
    let voters = list.iter().filter(|listed| !listed.learner);
    let answers =
        |id| world.members.values().any(|m| m.word.as_ref().is_some_and(|word| word.member_id == id && word.leader.is_some()));
    let (voters, healthy) = voters.fold((0, 0), |(all, well), listed| (all + 1, well + usize::from(answers(listed.id))));
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Some(Quorum { voters: number(voters), healthy: number(healthy), needed: number(quorum(voters)) })
}

fn state(snapshot: &Snapshot, world: &World, name: &str, member: &Member) -> MemberState {
    let id = member.object.as_ref().and_then(|object| object.id);
    let listed = match &world.store {
        Store::Listed { list, .. } => list.iter().find(|listed| Some(listed.id) == id),
        Store::Silent(_) => None,
    };
    let word = member.word.as_ref();
    let head = world.members.values().filter_map(|m| m.word.as_ref()).map(|word| word.last).max().unwrap_or_default();
    let role = word.filter(|word| word.leader.is_some()).map(|word| match (word.learner, word.leader == Some(word.member_id)) {
        (true, _) => Role::Learner,
        (false, true) => Role::Leader,
        (false, false) => Role::Follower,
    });
    MemberState {
        name: name.to_string(),
        id: id.map(|id| id.to_string()),
        pod_uid: snapshot.pod(name).and_then(|pod| pod.uid()),
        pvc: member.volume.as_ref().map(|_| name.to_string()),
        role,
        voter: listed.is_some_and(|listed| !listed.learner),
        healthy: word.is_some_and(|word| word.leader.is_some() && head.saturating_sub(word.applied) <= crate::plan::MAX_LAG),
        version: word.map(|word| word.version.clone()),
        raft_lag: word.map(|word| power_of_two(i64::try_from(head.saturating_sub(word.applied)).unwrap_or(i64::MAX))),
        db_size: word.map(|word| sixteenths(word.db_size)),
        in_use: word.map(|word| sixteenths(word.in_use)),
        alarms: word.map(|word| word.alarms.iter().map(alarm).collect()).unwrap_or_default(),
        volume_unreachable_since: member.volume.as_ref().and_then(|volume| match volume.state {
            VolumeState::Unreachable(since) => Some(Time(since)),
            _ => None,
        }),
    }
}

fn certificate(certificate: &Certificate) -> CertificateState {
    CertificateState { secret: certificate.secret.clone(), not_after: Time(certificate.until) }
}

fn alarm(alarm: &Alarm) -> String {
    match alarm {
        Alarm::NoSpace => "NOSPACE".into(),
        Alarm::Corrupt => "CORRUPT".into(),
    }
}

/// Rounded down to a power of two: figures that wander do not cause writes.
fn power_of_two(figure: i64) -> i64 {
    if figure <= 0 { 0 } else { 1 << figure.ilog2() }
}

/// Rounded down to a sixteenth of the power of two below.
fn sixteenths(figure: i64) -> i64 {
    let step = (power_of_two(figure) / 16).max(1);
    figure - figure % step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_coarse_enough_to_stay_put() {
        assert_eq!([0, 1, 3, 1000].map(power_of_two), [0, 1, 2, 512]);
        assert_eq!(sixteenths(1_000_000), sixteenths(1_010_000));
        assert_eq!([0, 15, 17, 1 << 30].map(sixteenths), [0, 15, 17, 1 << 30]);
    }
}
