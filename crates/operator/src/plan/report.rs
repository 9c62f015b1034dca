//! The conditions a world and a decision amount to.

use super::authority::Trust;
use super::bootstrap::in_use;
use super::decision::Course;
use super::restart::answering;
use super::view::{View, quorum, too_old, trouble_of};
use super::world::{Alarm, Exit, Need, Store, VolumeState, World};
use crate::api::OperationType;
use crate::api::condition::{
    AVAILABLE, CERTIFICATES_READY, DEGRADED, DISRUPTIBLE, PROGRESSING, QUORUM_LOST, STORAGE_HEALTHY, Sign,
};

pub(super) fn signs(view: &View, course: Option<&Course>, held_back: Option<&str>) -> Vec<Sign> {
    vec![
        available(view),
        progressing(view.world, course, held_back),
        degraded(view, course),
        quorum_lost(view),
        storage(view.world),
        certificates(view.world),
        disruptible(view),
    ]
}

fn sign(type_: &'static str, status: impl Into<Option<bool>>, reason: &'static str, message: impl Into<String>) -> Sign {
    Sign { type_, status: status.into(), reason, message: message.into() }
}

fn available(view: &View) -> Sign {
    match &view.world.store {
        Store::Listed { .. } if !in_use(view.world) => {
            sign(AVAILABLE, false, "NotFounded", "The store has just been founded; clients are let in next")
        }
        Store::Listed { .. } => {
            let (healthy, voters) = (view.healthy_count(), view.voter_count());
            sign(AVAILABLE, true, "QuorumAnswers", format!("{healthy} of {voters} voters are healthy"))
        }
        Store::Silent(_) if !in_use(view.world) => {
            sign(AVAILABLE, false, "NotFounded", "The first member has not founded the store yet")
        }
        Store::Silent(why) if seem_well(view.world) => sign(AVAILABLE, None, "Unknown", unheard(why)),
        Store::Silent(why) => sign(AVAILABLE, false, "NoQuorum", format!("No majority of members answers: {why}")),
    }
}

fn progressing(world: &World, course: Option<&Course>, held_back: Option<&str>) -> Sign {
    if world.cluster.paused {
        return sign(PROGRESSING, false, "Paused", "spec.paused is set: nothing is changed or healed until it is removed");
    }
    let Some(course) = course else {
        return sign(PROGRESSING, false, "Settled", "Everything is as the spec asks");
    };
    let late = world.cluster.operation.as_ref().filter(|operation| {
        operation.type_ == course.type_ && operation.member == course.member && operation.deadline <= world.now
    });
    match (&course.blocked_by, late) {
        (Some(blocked_by), _) if course.type_ == OperationType::Frozen => sign(PROGRESSING, false, "Frozen", blocked_by.clone()),
        (Some(blocked_by), _) if held_back == Some(blocked_by) => sign(PROGRESSING, false, "SpecNotInForce", blocked_by.clone()),
        (Some(blocked_by), Some(_)) => sign(PROGRESSING, false, "DeadlineExceeded", format!("{}: {blocked_by}", course.step)),
        (Some(blocked_by), None) => sign(PROGRESSING, true, "Waiting", format!("{}: {blocked_by}", course.step)),
        (None, _) => sign(PROGRESSING, true, "Acting", course.step.clone()),
    }
}

fn degraded(view: &View, course: Option<&Course>) -> Sign {
    if let Some(course) = course.filter(|course| course.type_ == OperationType::Frozen) {
        return sign(DEGRADED, true, "Frozen", course.blocked_by.clone().unwrap_or_default());
    }
    let in_trouble = view.world.members.iter().find_map(|(name, member)| Some((member, trouble_of(view, name, member)?)));
    if let Some((member, trouble)) = in_trouble {
        let reason = match &member.pod {
            None if too_old(member, view.goal).is_some() => "VersionTooOld",
            pod => pod.as_ref().and_then(|pod| pod.exit).map_or("PodInTrouble", Exit::reason),
        };
        return sign(DEGRADED, true, reason, trouble);
    }
    if view.listed().is_none() {
        let founded = in_use(view.world);
        return sign(DEGRADED, founded, if founded { "NoQuorum" } else { "NotFounded" }, "No majority of members answers");
    }
    match (view.all_healthy(), view.world.in_the_way.first()) {
        (false, _) => sign(DEGRADED, true, "MemberUnhealthy", format!("not healthy: {}", view.unhealthy())),
        (true, Some(obstacle)) => sign(DEGRADED, true, "InTheWay", obstacle.why.clone()),
        (true, None) => sign(DEGRADED, false, "AllHealthy", "Every voter answers and keeps up"),
    }
}

fn quorum_lost(view: &View) -> Sign {
    let world = view.world;
    let (answering, total) = answering(world);
    match &world.store {
        Store::Listed { .. } => sign(QUORUM_LOST, false, "QuorumAnswers", "A majority of voters answers"),
        Store::Silent(_) if !in_use(world) => sign(QUORUM_LOST, false, "NotFounded", "There is no store yet"),
        // They may be electing a leader; only their absence is a loss.
        Store::Silent(why) if total > 0 && answering >= quorum(total) => sign(QUORUM_LOST, None, "Unknown", why.clone()),
        Store::Silent(why) if seem_well(world) => sign(QUORUM_LOST, None, "Unknown", unheard(why)),
        Store::Silent(_) => {
            let message = format!(
                "{answering} of {total} members answer, {} are needed. Volumes are kept and pods restarted; \
                 bring back the nodes or volumes of the others",
                quorum(total)
            );
            sign(QUORUM_LOST, true, "TooFewMembers", message)
        }
    }
}

/// Kubernetes finds most members ready, which they are only with a majority: it is this operator that does not hear them.
fn seem_well(world: &World) -> bool {
    let known = || world.members.values().filter(|member| member.object.as_ref().is_some_and(|object| object.id.is_some()));
    let ready = known().filter(|member| member.pod.as_ref().is_some_and(|pod| pod.ready)).count();
    ready > 0 && ready >= quorum(known().count())
}

fn unheard(why: &str) -> String {
    format!(
        "The members' pods are ready, but do not answer this operator: {why}. Look at its certificate (spec.tls.client) and at \
         network policies"
    )
}

fn storage(world: &World) -> Sign {
    for (name, member) in &world.members {
        if member.word.as_ref().is_some_and(|word| word.alarms.contains(&Alarm::NoSpace)) {
            let message = format!(
                "member {name} is out of space and the store refuses writes: delete keys and compact, or raise options.quotaBackendBytes, \
                 then run `etcdctl alarm disarm`"
            );
            return sign(STORAGE_HEALTHY, false, "NoSpace", message);
        }
        if let Some(exit @ (Exit::Corrupt | Exit::DataGone)) = member.pod.as_ref().and_then(|pod| pod.exit) {
            return sign(STORAGE_HEALTHY, false, exit.reason(), format!("member {name}: {}", exit.says()));
        }
        if let Some(trouble) = member.volume.as_ref().and_then(|volume| volume.trouble.as_ref()) {
            return sign(STORAGE_HEALTHY, false, "NoVolume", format!("the volume of {name}: {trouble}"));
        }
        match member.volume.as_ref().map(|volume| &volume.state) {
            Some(VolumeState::Lost | VolumeState::Deleting) => {
                return sign(STORAGE_HEALTHY, false, "VolumeLost", format!("the volume of {name} is lost"));
            }
            Some(VolumeState::Unreachable(_)) => {
                return sign(
                    STORAGE_HEALTHY,
                    false,
                    "VolumeUnreachable",
                    format!("the only node that can reach the volume of {name} is gone"),
                );
            }
            _ => {}
        }
    }
    sign(STORAGE_HEALTHY, true, "VolumesIntact", "Every volume is there and no member is out of space")
}

fn certificates(world: &World) -> Sign {
    let sign = |status: bool, reason: &'static str, message: String| sign(CERTIFICATES_READY, status, reason, message);
    if let Some(obstacle) = world.obstacle_to(&Need::Certificates) {
        return sign(false, "CertificateMissing", obstacle.why.clone());
    }
    let Some(first) = world.certificates.iter().min_by_key(|certificate| certificate.until) else {
        return sign(true, "PlainText", "No port asks for certificates".into());
    };
    let (secret, until) = (&first.secret, first.until);
    if until <= world.now {
        let message = format!("the certificate in Secret {secret} was good until {until}: renew it, or find out why it was not");
        return sign(false, "CertificateExpired", message);
    }
    if let Some(late) = world.certificates.iter().find(|certificate| certificate.overdue <= world.now) {
        let message = format!(
            "the certificate in Secret {} is good until {} and was not renewed: look at Events, at spec.paused, and at who writes that Secret",
            late.secret, late.until
        );
        return sign(false, "CertificateEndsSoon", message);
    }
    let replaced = world.authorities.iter().find(|authority| matches!(authority.trust, Trust::Next | Trust::Former));
    match replaced {
        Some(authority) => {
            let side = authority.side.as_str();
            let next = match authority.trust {
                Trust::Next => "the new one signs",
                _ => "the old one is dropped",
            };
            let what = format!(
                "The {side} authority is being replaced: the old and the new one are trusted until members follow and \
                 rotation.overlap is over, then {next}"
            );
            sign(true, "AuthorityReplaced", what)
        }
        None => sign(true, "CertificatesGood", format!("The first to end is in Secret {secret}, good until {until}")),
    }
}

fn disruptible(view: &View) -> Sign {
    if !view.world.cluster.budget_enabled {
        return sign(DISRUPTIBLE, true, "NoBudget", "spec.pdb is switched off: drains do not wait for this cluster");
    }
    match view.goal.replicas {
        1 => sign(
            DISRUPTIBLE,
            false,
            "SingleMember",
            "A drain waits for the only member: scale to 3 first, or set spec.pdb.enabled to false and accept the outage",
        ),
        2 => sign(DISRUPTIBLE, false, "TwoMembers", "A drain waits because neither of two members can be spared: scale to 3"),
        _ if view.healthy_count() > quorum(view.voter_count().max(view.goal.replicas)) => {
            sign(DISRUPTIBLE, true, "MajorityStays", "One member at a time can be drained")
        }
        _ => sign(DISRUPTIBLE, false, "NoVoterToSpare", "A drain waits until every voter is healthy"),
    }
}
