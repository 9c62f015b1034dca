//! Puts together what Kubernetes and the members said.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use keelson_api::etcdserverpb::StatusResponse;
use kube::ResourceExt;

use super::snapshot::Snapshot;
use super::{certificates, nodes, pods, surroundings, volumes};
use crate::api::{Defaults, EtcdClusterStatus, EtcdMember, FINALIZER, Target, label};
use crate::plan::ids::{ClusterId, MemberId};
use crate::plan::{Alarm, Cluster, Fresh, Goal, Listed, Member, Object, Ongoing, Phase, Store, Word, World};
use crate::render;
use crate::store::Answers;

/// What this process remembers from earlier looks; a new process waits a little longer instead.
pub struct Recollection<'a> {
    pub now: Timestamp,
    /// For how long each member has answered.
    pub answering_for: &'a BTreeMap<String, Duration>,
}

/// The world, and the target that the spec asks for in full.
pub fn assemble(snapshot: &Snapshot, answers: &Answers, defaults: &Defaults, past: &Recollection) -> (World, Target) {
    let cluster = &snapshot.cluster;
    let status = cluster.status.clone().unwrap_or_default();
    let generation = cluster.metadata.generation.unwrap_or_default();
    let target = Target::of(&cluster.spec, generation, status.target.as_ref(), defaults);
    let name = cluster.name_any();
    let world = World {
        now: past.now,
        members: members(snapshot, answers, &status, past),
        store: store(snapshot, answers),
        budget: snapshot.budget.as_ref().filter(|budget| surroundings::belongs(cluster, *budget)).map(min_available),
        outdated: surroundings::outdated(snapshot),
        certificates: cluster.spec.tls.iter().flat_map(|tls| snapshot.papers.certificates(&snapshot.names, tls)).collect(),
        authorities: certificates::authorities(snapshot, &answers.followed, past.now),
        in_the_way: surroundings::in_the_way(snapshot),
        unschedulable: nodes::unschedulable(snapshot),
        fresh: Fresh { member: render::random_name(&name), token: render::random_token(&name) },
        cluster: facts(snapshot, &status, &target),
    };
    (world, target)
}

fn facts(snapshot: &Snapshot, status: &EtcdClusterStatus, wanted: &Target) -> Cluster {
    let cluster = &snapshot.cluster;
    let operation = status.operation.as_ref().map(|operation| Ongoing {
        type_: operation.type_,
        member: operation.member.clone(),
        deadline: operation.deadline.0,
    });
    Cluster {
        deleting: cluster.metadata.deletion_timestamp.is_some(),
        finalizer: cluster.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
        deletion_policy: cluster.spec.deletion_policy,
        paused: cluster.spec.paused,
        budget_enabled: cluster.spec.pdb.enabled,
        replace_after: cluster.spec.healing.replace_after(),
        wanted: goal(wanted),
        latched: status.target.as_ref().map(goal),
        reached: status.reached.clone(),
        id: status.cluster_id.as_deref().and_then(|id| id.parse().ok()),
        token: status.cluster_token.clone(),
        operation,
    }
}

fn goal(target: &Target) -> Goal {
    let replicas = usize::try_from(target.replicas).unwrap_or_default();
    Goal { replicas, version: target.version.clone(), digest: target.digest.clone() }
}

fn min_available(budget: &k8s_openapi::api::policy::v1::PodDisruptionBudget) -> i32 {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    match budget.spec.as_ref().and_then(|spec| spec.min_available.as_ref()) {
        Some(IntOrString::Int(number)) => *number,
        // Somebody made it a percentage, or took it out: any number that is not right is set right.
        Some(IntOrString::String(_)) | None => -1,
    }
}

fn members(snapshot: &Snapshot, answers: &Answers, status: &EtcdClusterStatus, past: &Recollection) -> BTreeMap<String, Member> {
    let mut members: BTreeMap<String, Member> = BTreeMap::new();
    for member in snapshot.members.iter().filter(|member| surroundings::belongs(&snapshot.cluster, *member)) {
        members.entry(member.name_any()).or_default().object = Some(object(member));
    }
    for claim in snapshot.claims.iter().filter(|claim| claim.labels().contains_key(label::MEMBER)) {
        let name = claim.name_any();
        let since =
            status.members.iter().find(|member| member.name == name).and_then(|member| member.volume_unreachable_since.as_ref());
        let volume = volumes::seen(claim, snapshot, since.map(|since| since.0), past.now);
        members.entry(name).or_default().volume = Some(volume);
    }
    for pod in snapshot.pods.iter().filter(|pod| pod.labels().contains_key(label::MEMBER)) {
        let name = pod.name_any();
        let mut seen = pods::seen(pod);
        let owner = snapshot.member(&name).and_then(|member| member.uid());
        if !pod.owner_references().iter().any(|reference| Some(&reference.uid) == owner.as_ref()) {
            // Of an EtcdMember that is gone: Kubernetes is about to delete it.
            seen.phase = Phase::Terminating;
        }
        let word = answers.statuses.get(&name).filter(|_| seen.phase == Phase::Live);
        let word = word.map(|status| word_of(status, past.answering_for.get(&name).copied().unwrap_or_default()));
        let member = members.entry(name).or_default();
        (member.pod, member.word) = (Some(seen), word);
    }
    members
}

fn object(member: &EtcdMember) -> Object {
    let status = member.status.clone().unwrap_or_default();
    Object {
        origin: member.spec.origin,
        token: member.spec.cluster_token.clone(),
        id: status.id.as_deref().and_then(|id| id.parse().ok()),
        cluster_id: status.cluster_id.as_deref().and_then(|id| id.parse().ok()),
        volume_uid: status.volume_uid,
        initial_cluster: status.initial_cluster,
    }
}

fn word_of(status: &StatusResponse, healthy_for: Duration) -> Word {
    let header = status.header.unwrap_or_default();
    Word {
        cluster_id: ClusterId(header.cluster_id),
        member_id: MemberId(header.member_id),
        leader: (status.leader != 0).then_some(MemberId(status.leader)),
        learner: status.is_learner,
        applied: status.raft_applied_index,
        last: status.raft_index,
        healthy_for,
        version: status.version.clone(),
        db_size: status.db_size,
        in_use: status.db_size_in_use,
        alarms: alarms(&status.errors, header.member_id),
    }
}

/// Every member reports the alarms of all, as text: `memberID:<decimal> alarm:<NAME>`.
fn alarms(errors: &[String], member: u64) -> Vec<Alarm> {
    let own = format!("memberID:{member} ");
    let raised = errors.iter().filter(|error| error.starts_with(&own));
    let mut alarms: Vec<_> = raised
        .filter_map(|error| match error.trim_end().rsplit_once("alarm:")?.1 {
            "NOSPACE" => Some(Alarm::NoSpace),
            "CORRUPT" => Some(Alarm::Corrupt),
            _ => None,
        })
        .collect();
    alarms.sort();
    alarms
}

fn store(snapshot: &Snapshot, answers: &Answers) -> Store {
    let Some((cluster_id, list)) = &answers.list else {
        return Store::Silent(answers.why_silent.clone());
    };
    let listed = |member: &keelson_api::etcdserverpb::Member| {
        let peer_url = member.peer_ur_ls.first().cloned().unwrap_or_default();
        Listed {
            id: MemberId(member.id),
            name: snapshot.names.member_of(&peer_url),
            peer_url,
            learner: member.is_learner,
            started: !member.name.is_empty(),
        }
    };
    Store::Listed { cluster_id: *cluster_id, list: list.iter().map(listed).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_taken_from_the_text_for_the_member_they_are_of() {
        let errors =
            ["memberID:10 alarm:NOSPACE ".to_string(), "memberID:1 alarm:CORRUPT ".into(), "etcdserver: no leader".into()];
        assert_eq!(alarms(&errors, 10), [Alarm::NoSpace]);
        assert_eq!(alarms(&errors, 1), [Alarm::Corrupt]);
        assert_eq!(alarms(&errors, 101), []);
    }
}
