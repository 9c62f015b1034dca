//! A world seen through the store's member list: who votes, who is healthy, whose data is lost.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::Origin;

use super::ids::{ClusterId, MemberId};
use super::version;
use super::world::{Exit, Goal, Listed, Member, Phase, Store, VolumeState, World};

/// A member further behind its leader than this many entries is not caught up.
pub const MAX_LAG: u64 = 1000;
/// How long the others must have answered before a member whose data is lost is removed.
pub const STEADY: Duration = Duration::from_secs(5);

/// A world, the goal in force, and what follows from both.
pub(super) struct View<'a> {
    pub world: &'a World,
    pub goal: &'a Goal,
    /// In the store's order; empty while the store is silent.
    pub seats: Vec<Seat<'a>>,
}

/// One entry of the store's list with what is known under its name.
pub(super) struct Seat<'a> {
    pub listed: &'a Listed,
    /// Empty for a member that somebody else added.
    pub name: &'a str,
    /// What exists under that name and is of this very id.
    pub member: Option<&'a Member>,
    pub healthy: bool,
    /// Why its data is lost, if it is.
    pub lost: Option<String>,
}

impl<'a> View<'a> {
    pub fn new(world: &'a World, goal: &'a Goal) -> Self {
        let list = match &world.store {
            Store::Listed { list, .. } => list.as_slice(),
            Store::Silent(_) => &[],
        };
        let leader = leader_of(world);
        // The leader's; while it is not heard, what those that follow it know of.
        let words = world.members.values().filter_map(|member| member.word.as_ref());
        let head = words.filter(|word| leader.is_some() && word.leader == leader).map(|word| word.last).max().unwrap_or(0);
        let seats = list.iter().map(|listed| seat(world, listed, leader.is_some(), head)).collect();
        Self { world, goal, seats }
    }

    pub fn voters(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.iter().filter(|seat| !seat.listed.learner)
    }

    pub fn learners(&self) -> impl Iterator<Item = &Seat<'a>> {
        self.seats.iter().filter(|seat| seat.listed.learner)
    }

    pub fn voter_count(&self) -> usize {
        self.voters().count()
    }

    pub fn healthy_count(&self) -> usize {
        self.voters().filter(|seat| seat.healthy).count()
    }

    /// True while every voter answers and keeps up.
    pub fn all_healthy(&self) -> bool {
        self.voters().all(|seat| seat.healthy)
    }

    pub fn leader(&self) -> Option<MemberId> {
        leader_of(self.world)
    }

    pub fn seat_of(&self, name: &str) -> Option<&Seat<'a>> {
        self.seats.iter().find(|seat| seat.name == name && seat.member.is_some())
    }

    pub fn listed(&self) -> Option<ClusterId> {
        match self.world.store {
            Store::Listed { cluster_id, .. } => Some(cluster_id),
            Store::Silent(_) => None,
        }
    }

    /// The names of voters that do not answer or lag, for people.
    pub fn unhealthy(&self) -> String {
        let names = self.voters().filter(|seat| !seat.healthy).map(|seat| match seat.name {
            "" => seat.listed.peer_url.clone(),
            name => name.to_string(),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// `name=url,…` of every member in the store's list: what a member that joins is told.
    pub fn initial_cluster(&self) -> String {
        let entry = |seat: &Seat| format!("{}={}", if seat.name.is_empty() { "other" } else { seat.name }, seat.listed.peer_url);
        self.seats.iter().map(entry).collect::<Vec<_>>().join(",")
    }
}

/// How many of `voters` make a majority.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// The leader that most answers name, which with a quorum read is the real one.
fn leader_of(world: &World) -> Option<MemberId> {
    let named = world.members.values().filter_map(|member| member.word.as_ref()?.leader);
    let mut votes: Vec<(MemberId, usize)> = Vec::new();
    for leader in named {
        match votes.iter_mut().find(|(id, _)| *id == leader) {
            Some((_, count)) => *count += 1,
            None => votes.push((leader, 1)),
        }
    }
    votes.into_iter().max_by_key(|(_, count)| *count).map(|(leader, _)| leader)
}

fn seat<'a>(world: &'a World, listed: &'a Listed, led: bool, head: u64) -> Seat<'a> {
    let by_id =
        world.members.iter().find(|(_, member)| member.object.as_ref().is_some_and(|object| object.id == Some(listed.id)));
    // A name says who it is only until the id is known: identity is the id.
    let by_name = || {
        let (name, member) = world.members.get_key_value(listed.name.as_deref()?)?;
        let known = member.object.as_ref().and_then(|o| o.id).or(member.volume.as_ref().and_then(|v| v.member_id));
        known.is_none_or(|id| id == listed.id).then_some((name, member))
    };
    let found = by_id.or_else(by_name);
    let name = found.map_or(listed.name.as_deref().unwrap_or(""), |(name, _)| name.as_str());
    let member = found.map(|(_, member)| member);
    let word = member.and_then(|member| member.word.as_ref()).filter(|word| word.member_id == listed.id);
    let healthy = led && word.is_some_and(|word| word.leader.is_some() && head.saturating_sub(word.applied) <= MAX_LAG);
    let lost = match (name, member) {
        _ if word.is_some() => None,
        ("", _) => None,
        (_, None) => Some("nothing of it is left".to_string()),
        (_, Some(member)) => lost(member, world.cluster.replace_after, world.now),
    };
    Seat { listed, name, member, healthy, lost }
}

/// Why the data of a member that was in the store and is silent is lost, if it is. Ended, crashing and pending pods are no reason.
pub(super) fn lost(member: &Member, replace_after: Duration, now: Timestamp) -> Option<String> {
    let Some(object) = &member.object else {
        return member.volume.is_none().then(|| "nothing of it is left".into());
    };
    let (Some(_), expected) = (object.id, object.volume_uid.as_deref()) else {
        return None;
    };
    let Some(volume) = &member.volume else {
        // A learner that was only just added has no volume yet; every other member had one.
        return (expected.is_some() || object.origin != Origin::Added).then(|| "its volume is gone".into());
    };
    if expected.is_some_and(|uid| uid != volume.uid) {
        return Some("its volume was replaced by another of the same name".into());
    }
    match (&volume.state, member.pod.as_ref().and_then(|pod| pod.exit)) {
        (VolumeState::Lost, _) => Some("Kubernetes reports its volume as lost".into()),
        (VolumeState::Deleting, _) => Some("its volume is being deleted".into()),
        (_, Some(exit @ (Exit::DataGone | Exit::Corrupt))) => Some(exit.says().into()),
        (VolumeState::Unreachable(since), _) if waited(*since, now) >= replace_after => {
            Some("the only node that can reach its volume is gone".into())
        }
        _ => None,
    }
}

/// Why a member's volume must not be given to a process of this version, if that is known.
pub(super) fn too_old(member: &Member, goal: &Goal) -> Option<String> {
    version::too_old(&goal.version, member.volume.as_ref()?.version.as_ref()?)
}

/// For how long something has been so.
pub(super) fn waited(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// What is wrong with a member's volume or pod, for people: as Kubernetes says, or why there is no pod.
pub(super) fn trouble_of(view: &View, name: &str, member: &Member) -> Option<String> {
    if member.pod.is_none()
        && let Some(why) = too_old(member, view.goal)
    {
        return Some(format!("{name} is not started: {why}"));
    }
    // A pod waits for its volume, and knows less about why there is none.
    let volume = || Some(format!("volume of {name}: {}", member.volume.as_ref()?.trouble.as_ref()?));
    let pod = || Some(format!("pod {name}: {}", member.pod.as_ref()?.trouble.as_ref()?));
    volume().or_else(pod)
}

/// Why a pod is not to be taken down though it may not work: it holds a volume that goes with it, and nobody else has the data.
pub(super) fn only_copy(view: &View, name: &str, member: &Member) -> Option<String> {
    let going = member.volume.as_ref().is_some_and(|volume| volume.state == VolumeState::Deleting);
    let elsewhere = view.voters().any(|seat| seat.healthy && seat.name != name);
    (going && !elsewhere).then(|| {
        format!(
            "volume claim {name} is being deleted and only pod {name} holds it, with the only copy of the data: \
             add members, or save a snapshot, before anything is changed"
        )
    })
}

/// True for a pod that neither Kubernetes nor the store sees working.
pub(super) fn broken(member: &Member) -> bool {
    member.pod.as_ref().is_some_and(|pod| pod.phase == Phase::Live && !pod.ready && member.word.is_none())
}
