//! What was observed at one moment: all that the planner knows.
//!
//! *Invariant*: absence of an answer is kept apart from an answer. A member that is silent is not known to be dead, a
//! store that is silent is not known to be empty.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::authority::{Authority, Certificate};
use super::ids::{ClusterId, MemberId};
use crate::api::{DeletionPolicy, Leaf, OperationType, Origin, Reached};

/// Everything about one EtcdCluster.
#[derive(Clone, Debug)]
pub struct World {
    pub now: Timestamp,
    pub cluster: Cluster,
    /// By name: every EtcdMember, and every volume and pod that carries the cluster's label.
    pub members: BTreeMap<String, Member>,
    pub store: Store,
    /// `minAvailable` of the disruption budget, if there is one.
    pub budget: Option<i32>,
    /// Objects around the members that are missing or not as they should be, in the order they are needed.
    pub outdated: Vec<Surrounding>,
    /// Certificates in use, whoever issued them.
    pub certificates: Vec<Certificate>,
    /// Of ports whose certificates the operator issues itself.
    pub authorities: Vec<Authority>,
    /// What keeps this cluster from something it needs, and only a person or time can take away.
    pub in_the_way: Vec<Obstacle>,
    /// Why no node could run another member, if that is so.
    pub unschedulable: Option<String>,
    /// Names for what is created next; random, so that a name never meets its past.
    pub fresh: Fresh,
}

impl World {
    /// Why `need` cannot be had, if it cannot.
    pub fn obstacle_to(&self, need: &Need) -> Option<&Obstacle> {
        self.in_the_way.iter().find(|obstacle| obstacle.to == *need)
    }

    /// Why a pod that is made now would not come to work, as far as that is known and does not depend on a node.
    pub fn hampered(&self) -> Option<&str> {
        self.in_the_way.iter().find(|obstacle| obstacle.to.is_for_members()).map(|obstacle| obstacle.why.as_str())
    }
}

/// Something that somebody else's object, or a Secret that cannot be used, keeps this cluster from.
#[derive(Clone, Debug)]
pub struct Obstacle {
    pub to: Need,
    /// One sentence with what to do.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    Object(Surrounding),
    Budget,
    /// To know which volumes are out of reach, and whether another member could run.
    Nodes,
    /// The EtcdMember of that name.
    Member(String),
    /// What members show each other and their clients, and this operator shows them.
    Certificates,
}

impl Need {
    /// Members run without the others: those are for clients, for drains, or for one member that is not there yet.
    pub fn is_for_members(&self) -> bool {
        matches!(self, Need::Object(Surrounding::PeerService) | Need::Certificates)
    }
}

/// The EtcdCluster itself: spec and what its status remembers.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub deleting: bool,
    pub finalizer: bool,
    pub deletion_policy: DeletionPolicy,
    pub paused: bool,
    pub budget_enabled: bool,
    pub replace_after: Duration,
    /// What the spec asks for now.
    pub wanted: Goal,
    /// What the cluster is being brought to.
    pub latched: Option<Goal>,
    pub reached: Option<Reached>,
    pub id: Option<ClusterId>,
    pub token: Option<String>,
    pub operation: Option<Ongoing>,
}

/// What members to have: how many, and made from what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Goal {
    pub replicas: usize,
    pub version: String,
    /// Of the template that pods are made from.
    pub digest: String,
}

impl Goal {
    pub fn is(&self, reached: &Reached) -> bool {
        self.digest == reached.digest && usize::try_from(reached.replicas) == Ok(self.replicas)
    }
}

/// The operation that the status speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ongoing {
    pub type_: OperationType,
    pub member: Option<String>,
    pub deadline: Timestamp,
}

#[derive(Clone, Debug)]
pub struct Fresh {
    pub member: String,
    pub token: String,
}

/// All that exists under one member's name.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub object: Option<Object>,
    pub volume: Option<Volume>,
    pub pod: Option<Pod>,
    /// Its own answer; `None` is silence.
    pub word: Option<Word>,
}

/// The EtcdMember.
#[derive(Clone, Debug)]
pub struct Object {
    pub origin: Origin,
    pub token: String,
    pub id: Option<MemberId>,
    pub cluster_id: Option<ClusterId>,
    /// The claim that was made for it.
    pub volume_uid: Option<String>,
    pub initial_cluster: Option<String>,
}

/// The volume claim.
#[derive(Clone, Debug)]
pub struct Volume {
    pub uid: String,
    pub token: Option<String>,
    pub member_id: Option<MemberId>,
    pub cluster_id: Option<ClusterId>,
    /// The version of the last cluster at rest that wrote to it.
    pub version: Option<String>,
    pub state: VolumeState,
    /// What happens to the data behind the claim when the claim is deleted; `None` while it is not bound.
    pub kept: Option<bool>,
    /// Why there is no volume behind the claim yet, where that is known.
    pub trouble: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeState {
    Intact,
    /// Kubernetes says that what the claim stood for is gone.
    Lost,
    /// Somebody deleted the claim; it goes when no pod uses it any more.
    Deleting,
    /// The only node that can reach it is deleted or out of service, since then.
    Unreachable(Timestamp),
}

#[derive(Clone, Debug)]
pub struct Pod {
    /// Of the template it was made from.
    pub digest: String,
    pub initial_cluster: String,
    /// Started to found a store if its volume is empty.
    pub founds: bool,
    pub phase: Phase,
    pub ready: bool,
    /// Carries the label that the disruption budget counts.
    pub counted: bool,
    /// Why it cannot start or keep running as it is, in Kubernetes' words.
    pub trouble: Option<String>,
    /// What the store said with its exit code, if it has ended and does not run again.
    pub exit: Option<Exit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not ended; whether it runs well, `ready` and `trouble` say.
    Live,
    /// Failed or Succeeded: it will never run again.
    Ended,
    Terminating,
}

/// Exit codes by which the store says that a restart cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    DataGone,
    Corrupt,
    Removed,
}

impl Exit {
    /// One word for conditions and Events.
    pub fn reason(self) -> &'static str {
        match self {
            Exit::DataGone => "DataGone",
            Exit::Corrupt => "DataDamaged",
            Exit::Removed => "MemberRemoved",
        }
    }

    /// What the store says with it.
    pub fn says(self) -> &'static str {
        match self {
            Exit::DataGone => "the store reports that its data is gone",
            Exit::Corrupt => "the store reports that its data is damaged",
            Exit::Removed => "the store reports that this member was removed from the cluster",
        }
    }
}

/// What one member says about itself.
#[derive(Clone, Debug)]
pub struct Word {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    pub leader: Option<MemberId>,
    pub learner: bool,
    /// The index of the last entry it applied.
    pub applied: u64,
    /// The index of the last entry of its log.
    pub last: u64,
    /// For how long it has answered without a gap.
    pub healthy_for: Duration,
    pub version: String,
    pub db_size: i64,
    pub in_use: i64,
    pub alarms: Vec<Alarm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    NoSpace,
    Corrupt,
}

/// The membership, as a quorum of the store's members knows it.
#[derive(Clone, Debug)]
pub enum Store {
    /// No quorum answered; why, as far as known.
    Silent(String),
    Listed {
        cluster_id: ClusterId,
        list: Vec<Listed>,
    },
}

/// One entry of the store's own member list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: MemberId,
    /// By its peer URL, if that is one of this cluster's; otherwise it is somebody else's.
    pub name: Option<String>,
    pub peer_url: String,
    pub learner: bool,
    /// Has told the store its name, which it does when it first runs.
    pub started: bool,
}

/// Objects around the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Surrounding {
    PeerService,
    ClientService,
    Connection,
    /// The object that asks cert-manager for a certificate.
    Certificate(Leaf),
}
