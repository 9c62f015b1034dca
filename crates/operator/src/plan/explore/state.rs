//! A small world that really happens: pods, volumes and stores of which the planner sees only what it could.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::api::{DeletionPolicy, OperationType, Origin, Reached};
use crate::plan::ids::{ClusterId, MemberId};
use crate::plan::{Cluster, Decision, Exit, Fresh, Goal, Listed, Member, Object, Ongoing, Phase, Pod, Start, Store, Surrounding};
use crate::plan::{STEADY, Volume, VolumeState, Word, World, quorum};

/// The template that no pod can start from.
pub const BAD: u8 = 9;
const HEAD: u64 = 5000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Replicas and template.
    pub spec: (u8, u8),
    pub status: Status,
    pub slots: Vec<Slot>,
    pub stores: Vec<StoreState>,
    pub budget: Option<u8>,
    pub paused: bool,
    pub end: End,
    /// The Service for clients exists: from then on somebody may have written.
    pub published: bool,
    /// A process founded a store although somebody may have written to another.
    pub refounded: bool,
    /// Those who answer have done so for a while.
    pub steady: bool,
    pub failures_left: u8,
    pub edits_left: u8,
    pub crashes_left: u8,
    pub next_id: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    pub latched: Option<(u8, u8)>,
    pub reached: Option<(u8, u8)>,
    pub cluster: Option<u8>,
    pub operation: Option<(OperationType, Option<String>)>,
    pub overdue: bool,
}

/// The resource's deletion: what is to happen to the volumes, and how far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct End {
    pub policy: DeletionPolicy,
    pub finalizer: bool,
    /// Deleted, and held by the finalizer.
    pub asked: bool,
    /// Gone.
    pub done: bool,
}

impl End {
    /// The volumes are to go.
    pub fn takes_all(&self) -> bool {
        self.asked && self.policy == DeletionPolicy::Delete
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    pub object: Option<ObjectState>,
    pub volume: Option<VolState>,
    pub pod: Option<PodState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectState {
    pub origin: Origin,
    pub id: Option<u8>,
    pub cluster: Option<u8>,
    pub volume: Option<u8>,
    pub told: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolState {
    pub uid: u8,
    pub id: Option<u8>,
    pub cluster: Option<u8>,
    pub content: Content,
    pub kept: bool,
    /// Deleted, and there only for as long as a pod uses it.
    pub deleting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    Empty,
    /// Of which store and member, and whether everything acknowledged is in it.
    Data {
        store: u8,
        id: u8,
        complete: bool,
    },
    Corrupt,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodState {
    pub template: u8,
    pub start: Start,
    pub told: String,
    pub counted: bool,
    pub run: Run,
    /// The operator does not hear it, though others may.
    pub unheard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Run {
    Starting,
    /// Answers and is ready, but has not applied everything.
    Up,
    Synced,
    Stuck,
    Exited(Exit),
    Ended,
    Terminating,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreState {
    pub seats: Vec<SeatState>,
    pub leader: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeatState {
    pub id: u8,
    pub slot: usize,
    pub learner: bool,
    pub started: bool,
}

pub fn name(slot: usize) -> String {
    format!("m{slot}")
}

pub fn slot_of(name: &str) -> usize {
    name[1..].parse().expect("a name of this module")
}

impl State {
    pub fn new(replicas: u8, slots: usize, failures: u8, edits: u8, crashes: u8) -> Self {
        State {
            spec: (replicas, 1),
            status: Status::default(),
            slots: vec![Slot::default(); slots],
            stores: Vec::new(),
            budget: None,
            paused: false,
            end: End::default(),
            published: false,
            refounded: false,
            steady: false,
            failures_left: failures,
            edits_left: edits,
            crashes_left: crashes,
            next_id: 1,
        }
    }

    /// The seat that the member in `slot` runs for, if its process runs.
    pub fn running(&self, slot: usize) -> Option<(usize, &SeatState)> {
        let live = self.slots[slot].pod.as_ref().is_some_and(|pod| matches!(pod.run, Run::Up | Run::Synced));
        let Some(Content::Data { store, id, .. }) = self.slots[slot].volume.as_ref().map(|volume| volume.content) else {
            return None;
        };
        let seat = self.stores[usize::from(store)].seats.iter().find(|seat| seat.id == id)?;
        live.then_some((usize::from(store), seat))
    }

    /// The same, if the operator hears it.
    pub fn heard(&self, slot: usize) -> Option<(usize, &SeatState)> {
        self.running(slot).filter(|_| self.slots[slot].pod.as_ref().is_some_and(|pod| !pod.unheard))
    }

    /// The operator can ask for changes, which it asks of the leader.
    pub fn hears_leader(&self) -> bool {
        let leads = |(store, seat): (usize, &SeatState)| self.stores[store].leader == Some(seat.id);
        (0..self.slots.len()).any(|slot| self.heard(slot).is_some_and(leads))
    }

    pub fn voters(&self, store: usize) -> impl Iterator<Item = &SeatState> {
        self.stores[store].seats.iter().filter(|seat| !seat.learner)
    }

    /// A majority of voters runs.
    pub fn quorate(&self, store: usize) -> bool {
        let up = self.voters(store).filter(|seat| self.running(seat.slot).is_some_and(|(_, s)| s.id == seat.id)).count();
        up >= quorum(self.voters(store).count())
    }

    /// Voters that have everything on a volume that is there.
    pub fn complete(&self, store: usize) -> usize {
        let has = |seat: &&SeatState| {
            let content = self.slots[seat.slot].volume.as_ref().map(|volume| volume.content);
            matches!(content, Some(Content::Data { id, complete: true, .. }) if id == seat.id)
        };
        self.voters(store).filter(has).count()
    }

    /// The store in which the newest process runs, with a majority and a leader.
    pub fn answering(&self) -> Option<usize> {
        (0..self.stores.len()).rev().find(|store| self.stores[*store].leader.is_some() && self.quorate(*store))
    }

    /// The same world with ids and UIDs counted from one, in the order in which they are met.
    pub fn renumbered(&self) -> State {
        let mut state = self.clone();
        let mut given = vec![0u8; usize::from(self.next_id)];
        let mut count = 0;
        let mut renumber = |number: &mut u8| {
            let new = &mut given[usize::from(*number)];
            if *new == 0 {
                count += 1;
                *new = count;
            }
            *number = *new;
        };
        for store in &mut state.stores {
            store.seats.iter_mut().for_each(|seat| renumber(&mut seat.id));
            store.leader.iter_mut().for_each(&mut renumber);
        }
        for Slot { object, volume, .. } in &mut state.slots {
            if let Some(object) = object {
                object.id.iter_mut().chain(&mut object.volume).for_each(&mut renumber);
            }
            if let Some(volume) = volume {
                renumber(&mut volume.uid);
                volume.id.iter_mut().for_each(&mut renumber);
                if let Content::Data { id, .. } = &mut volume.content {
                    renumber(id);
                }
            }
        }
        State { next_id: count, ..state }
    }

    /// What the planner gets to see.
    pub fn world(&self) -> World {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let goal = |(replicas, template): (u8, u8)| Goal {
            replicas: usize::from(replicas),
            version: "1.0.0".into(),
            digest: format!("t{template}"),
        };
        let reached = self.status.reached.map(|(replicas, t)| Reached { replicas: i32::from(replicas), digest: format!("t{t}") });
        let deadline = if self.status.overdue { now } else { now + SignedDuration::from_mins(10) };
        let operation = self.status.operation.clone();
        let cluster = Cluster {
            deleting: self.end.asked,
            finalizer: self.end.finalizer,
            deletion_policy: self.end.policy,
            paused: self.paused,
            budget_enabled: true,
            replace_after: STEADY,
            wanted: goal(self.spec),
            latched: self.status.latched.map(goal),
            reached,
            id: self.status.cluster.map(|id| ClusterId(id.into())),
            token: None,
            operation: operation.map(|(type_, member)| Ongoing { type_, member, deadline }),
        };
        let members: BTreeMap<_, _> = (0..self.slots.len()).filter_map(|slot| Some((name(slot), self.member(slot)?))).collect();
        let unused = |slot: &usize| {
            self.slots[*slot] == Slot::default()
                && self.stores.iter().all(|store| store.seats.iter().all(|seat| seat.slot != *slot))
        };
        let fresh = (0..self.slots.len()).find(unused).map_or_else(|| "none".into(), name);
        World {
            now,
            cluster,
            members,
            store: self.listed(),
            budget: self.budget.map(i32::from),
            outdated: if self.published { vec![] } else { vec![Surrounding::ClientService] },
            certificates: vec![],
            authorities: vec![],
            in_the_way: vec![],
            unschedulable: (fresh == "none").then(|| "no node".into()),
            fresh: Fresh { member: fresh, token: "token".into() },
        }
    }

    fn listed(&self) -> Store {
        let Some(store) = self.answering() else {
            return Store::Silent("no leader".into());
        };
        if (0..self.slots.len()).all(|slot| self.heard(slot).is_none_or(|(other, _)| other != store)) {
            return Store::Silent("nobody is heard".into());
        }
        let list = self.stores[store].seats.iter().map(|seat| Listed {
            id: MemberId(seat.id.into()),
            name: Some(name(seat.slot)),
            peer_url: format!("http://{}:2380", name(seat.slot)),
            learner: seat.learner,
            started: seat.started,
        });
        Store::Listed { cluster_id: ClusterId(store as u64 + 1), list: list.collect() }
    }

    fn member(&self, slot: usize) -> Option<Member> {
        let Slot { object, volume, pod } = &self.slots[slot];
        if object.is_none() && volume.is_none() && pod.is_none() {
            return None;
        }
        let cluster_id = |id: &Option<u8>| id.map(|id| ClusterId(id.into()));
        let word = self.heard(slot).map(|(store, seat)| Word {
            cluster_id: ClusterId(store as u64 + 1),
            member_id: MemberId(seat.id.into()),
            leader: self.stores[store].leader.filter(|_| self.quorate(store)).map(|id| MemberId(id.into())),
            learner: seat.learner,
            applied: if pod.as_ref().is_some_and(|pod| pod.run == Run::Synced) { HEAD } else { 0 },
            last: HEAD,
            healthy_for: if self.steady { STEADY } else { Default::default() },
            version: "1.0.0".into(),
            db_size: 0,
            in_use: 0,
            alarms: vec![],
        });
        Some(Member {
            object: object.as_ref().map(|object| Object {
                origin: object.origin,
                token: "token".into(),
                id: object.id.map(|id| MemberId(id.into())),
                cluster_id: cluster_id(&object.cluster),
                volume_uid: object.volume.map(|uid| uid.to_string()),
                initial_cluster: object.told.clone(),
            }),
            volume: volume.as_ref().map(|volume| Volume {
                uid: volume.uid.to_string(),
                token: Some("token".into()),
                member_id: volume.id.map(|id| MemberId(id.into())),
                cluster_id: cluster_id(&volume.cluster),
                version: Some("1.0.0".into()),
                state: if volume.deleting { VolumeState::Deleting } else { VolumeState::Intact },
                kept: Some(volume.kept),
                trouble: None,
            }),
            pod: pod.as_ref().map(|pod| Pod {
                digest: format!("t{}", pod.template),
                initial_cluster: pod.told.clone(),
                founds: pod.start == Start::New,
                phase: match pod.run {
                    Run::Ended => Phase::Ended,
                    Run::Terminating => Phase::Terminating,
                    _ => Phase::Live,
                },
                ready: matches!(pod.run, Run::Up | Run::Synced),
                counted: pod.counted,
                trouble: matches!(pod.run, Run::Stuck | Run::Exited(_)).then(|| "does not start".into()),
                exit: if let Run::Exited(exit) = pod.run { Some(exit) } else { None },
            }),
            word,
        })
    }

    /// What the operator writes into the status before it acts.
    pub fn remember(&mut self, decision: &Decision) {
        if decision.latch {
            self.status.latched = Some(self.spec);
        }
        if decision.reached {
            self.status.reached = self.status.latched;
        }
        if let Some(id) = decision.cluster_id {
            self.status.cluster = Some(id.0 as u8);
        }
        let operation = decision.course.as_ref().map(|course| (course.type_, course.member.clone()));
        if operation != self.status.operation {
            self.status.overdue = false;
        }
        self.status.operation = operation;
    }
}
