//! What comes out of planning: at most one action, why, and what to report.

use std::time::Duration;

use super::authority::Turn;
use super::ids::{ClusterId, MemberId};
use super::world::Surrounding;
use crate::api::condition::Sign;
use crate::api::{Leaf, OperationType, Origin, Side};

/// What to remember, to do and to report.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The spec's target is taken over from now on.
    pub latch: bool,
    /// The target in force is reached.
    pub reached: bool,
    /// The store's id and token, to be remembered in the status before anything is done.
    pub cluster_id: Option<ClusterId>,
    pub token: Option<String>,
    /// `None` when there is nothing to do.
    pub course: Option<Course>,
    pub action: Option<Action>,
    pub signs: Vec<Sign>,
    /// When to look again if no event comes before.
    pub look_again: Duration,
}

/// What is being done and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    pub type_: OperationType,
    pub member: Option<String>,
    pub step: String,
    pub blocked_by: Option<String>,
}

/// One change of the world. Each can be repeated or abandoned at any point: the next plan goes on from what is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Apply(Surrounding),
    /// Signs a certificate, or puts it beside the authorities that are trusted now.
    Issue {
        leaf: Leaf,
    },
    Turn {
        side: Side,
        turn: Turn,
    },
    SetFinalizer(bool),
    CreateMember {
        name: String,
        token: String,
        origin: Origin,
    },
    /// The claim, annotated with what is known of its member already.
    CreateVolume {
        name: String,
    },
    /// Writes to the volume first and to the EtcdMember second.
    Record {
        name: String,
        record: Record,
    },
    CreatePod {
        name: String,
        start: Start,
    },
    DeletePod {
        name: String,
    },
    DeleteVolume {
        name: String,
    },
    DeleteMember {
        name: String,
    },
    /// The data outlives the claim.
    KeepVolume {
        name: String,
    },
    Count {
        name: String,
        counted: bool,
    },
    SetBudget {
        min_available: i32,
    },
    DeleteBudget,
    AddLearner {
        name: String,
    },
    Promote {
        name: String,
        id: MemberId,
    },
    MoveLeader {
        from: MemberId,
        to: MemberId,
    },
    RemoveMember {
        id: MemberId,
    },
}

/// What is remembered of a member; `None` leaves what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub identity: Option<(MemberId, ClusterId)>,
    pub volume_uid: Option<String>,
    pub initial_cluster: Option<String>,
    /// Goes onto the volume only.
    pub version: Option<String>,
}

/// The `initial-cluster-state` a pod is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Start {
    /// Founds a store if its volume is empty.
    New,
    /// Continues or joins; fails on an empty volume that no store expects.
    Existing,
}

/// What one rule has to say about a world it recognises.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub course: Course,
    pub action: Option<Action>,
}

impl Step {
    pub fn act(type_: OperationType, member: Option<&str>, why: impl Into<String>, action: Action) -> Self {
        let course = Course { type_, member: member.map(str::to_string), step: why.into(), blocked_by: None };
        Self { course, action: Some(action) }
    }

    pub fn wait(type_: OperationType, member: Option<&str>, step: impl Into<String>, blocked_by: impl Into<String>) -> Self {
        let blocked_by = Some(blocked_by.into());
        let course = Course { type_, member: member.map(str::to_string), step: step.into(), blocked_by };
        Self { course, action: None }
    }
}
