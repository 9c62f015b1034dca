//! One test per safety rule, each on the smallest world that shows it.

mod certificates;
mod found;
mod founding;
mod healing;
mod membership;
mod reporting;
mod rolling;

use std::time::Duration;

use jiff::Timestamp;

use super::ids::{ClusterId, MemberId};
use super::*;
use crate::api::{DeletionPolicy, Origin, Reached};

pub const STORE: ClusterId = ClusterId(0xc0);

/// A settled cluster of `size` members a, b, c …, led by a.
pub fn settled(size: usize) -> World {
    let goal = Goal { replicas: size, version: "1.0.0".into(), digest: "old".into() };
    let names: Vec<String> = ('a'..).take(size).map(String::from).collect();
    let list = names.iter().enumerate().map(|(n, name)| listed(n, name)).collect();
    World {
        now: Timestamp::from_second(1_000_000).unwrap(),
        cluster: Cluster {
            deleting: false,
            finalizer: false,
            deletion_policy: DeletionPolicy::Retain,
            paused: false,
            budget_enabled: true,
            replace_after: Duration::from_secs(300),
            wanted: goal.clone(),
            reached: Some(Reached { replicas: size as i32, digest: goal.digest.clone() }),
            latched: Some(goal),
            id: Some(STORE),
            token: Some("token".into()),
            operation: None,
        },
        members: names.iter().enumerate().map(|(n, name)| (name.clone(), member(n))).collect(),
        store: Store::Listed { cluster_id: STORE, list },
        budget: Some(quorum(size) as i32),
        outdated: vec![],
        certificates: vec![],
        authorities: vec![],
        in_the_way: vec![],
        unschedulable: None,
        fresh: Fresh { member: "new".into(), token: "fresh-token".into() },
    }
}

pub fn id(n: usize) -> MemberId {
    MemberId(n as u64 + 1)
}

pub fn listed(n: usize, name: &str) -> Listed {
    let peer_url = format!("http://{name}.c-peers.ns.svc:2380");
    Listed { id: id(n), name: Some(name.into()), peer_url, learner: false, started: true }
}

fn member(n: usize) -> Member {
    Member { object: Some(object(n)), volume: Some(volume(n)), pod: Some(pod()), word: Some(word(n)) }
}

pub fn object(n: usize) -> Object {
    let uid = format!("volume-{n}");
    Object {
        origin: if n == 0 { Origin::Seed } else { Origin::Added },
        token: "token".into(),
        id: Some(id(n)),
        cluster_id: Some(STORE),
        volume_uid: Some(uid),
        initial_cluster: Some("told".into()),
    }
}

pub fn volume(n: usize) -> Volume {
    Volume {
        uid: format!("volume-{n}"),
        token: Some("token".into()),
        member_id: Some(id(n)),
        cluster_id: Some(STORE),
        version: Some("1.0.0".into()),
        state: VolumeState::Intact,
        kept: Some(true),
        trouble: None,
    }
}

pub fn pod() -> Pod {
    Pod {
        digest: "old".into(),
        initial_cluster: "told".into(),
        founds: false,
        phase: Phase::Live,
        ready: true,
        counted: true,
        trouble: None,
        exit: None,
    }
}

pub fn word(n: usize) -> Word {
    Word {
        cluster_id: STORE,
        member_id: id(n),
        leader: Some(id(0)),
        learner: false,
        applied: 5000,
        last: 5000,
        healthy_for: STEADY,
        version: "3.7.1".into(),
        db_size: 0,
        in_use: 0,
        alarms: vec![],
    }
}

impl World {
    pub fn m(&mut self, name: &str) -> &mut Member {
        self.members.get_mut(name).expect("a member of this world")
    }

    pub fn list(&mut self) -> &mut Vec<Listed> {
        match &mut self.store {
            Store::Listed { list, .. } => list,
            Store::Silent(_) => panic!("this store is silent"),
        }
    }

    /// The member's process is gone, its pod is not ready.
    pub fn down(&mut self, name: &str) {
        let member = self.m(name);
        member.word = None;
        if let Some(pod) = &mut member.pod {
            pod.ready = false;
        }
    }

    pub fn silent(&mut self) {
        self.store = Store::Silent("nobody answers".into());
        self.members.values_mut().filter_map(|member| member.word.as_mut()).for_each(|word| word.leader = None);
    }
}

/// The one action that is decided on.
#[track_caller]
pub fn acts(world: &World) -> Action {
    let decision = plan(world);
    decision.action.unwrap_or_else(|| panic!("no action: {:?}", decision.course))
}

/// What is waited for, where nothing may be done.
#[track_caller]
pub fn waits(world: &World) -> String {
    let decision = plan(world);
    assert_eq!(decision.action, None);
    decision.course.and_then(|course| course.blocked_by).expect("something is waited for")
}

#[track_caller]
pub fn rests(world: &World) {
    let decision = plan(world);
    assert_eq!((&decision.action, &decision.course), (&None, &None));
}
