//! The types openraft is instantiated with.

use std::fmt;

use bytes::Bytes;
#[cfg(not(feature = "simulation"))]
use openraft::impls::TokioRuntime;
use openraft::impls::{BoxedErrorSource, InlineBatch, Vote, leader_id_std};
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft::{EmptyNode, Entry, EntryPayload, LogId, OptionalSend, RaftTypeConfig};

/// Several commands that travel as one entry: each prefixed with its length, in `codec`'s framing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Batch(pub(crate) Bytes);

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Calls back where the result is, without a task in between.
pub(crate) struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub(crate) fn new(f: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(f))
    }
}

impl<T: OptionalSend + 'static> Responder<Types, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft's parameters.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Batch;
    // Those who wait for a batch are told by `pending`, wherever it was proposed.
    type R = ();
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Batch, u64, EmptyNode>;
    type Entry = Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    #[cfg(not(feature = "simulation"))]
    type AsyncRuntime = TokioRuntime;
    #[cfg(feature = "simulation")]
    type AsyncRuntime = crate::seeded::Seeded;
    type Responder<T>
        = Callback<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

pub(crate) type RaftEntry = <Types as RaftTypeConfig>::Entry;
pub(crate) type RaftVote = <Types as RaftTypeConfig>::Vote;
type Committed = <leader_id_std::LeaderId<u64, u64> as RaftLeaderId>::Committed;
pub(crate) type RaftLogId = LogId<Committed>;
pub(crate) type RaftMembership = openraft::Membership<u64, EmptyNode>;
pub(crate) type RaftStoredMembership = openraft::StoredMembership<Committed, u64, EmptyNode>;
