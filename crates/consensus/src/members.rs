//! Changing who takes part. openraft acts on a membership when it is appended, so each change here is
//! one step: any number of learners, or one voter more or less.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use openraft::async_runtime::instant::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::Precondition;
use openraft::{EmptyNode, EntryPayload};

use crate::node::Node;
use crate::types::{RaftMembership, Types};

/// How far the leader knows a member to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Newest entry that is on its disk.
    pub matched: Option<u64>,
    /// When it last answered; `None` if it never did.
    pub answered: Option<Duration>,
}

/// Who takes part, as consensus has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Members that vote.
    pub voters: BTreeSet<u64>,
    /// Members that only follow.
    pub learners: BTreeSet<u64>,
    /// No change is under way.
    pub settled: bool,
}

impl Node {
    /// Who takes part.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        let metrics = self.raft.metrics();
        let m = metrics.borrow_watched();
        let membership = m.membership_config.membership();
        Configuration {
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            settled: m.membership_config == m.committed_membership_config && membership.get_joint_config().len() == 1,
        }
    }

    /// Takes the next step to these voters and learners. `Ok(false)` if it cannot be taken now: this
    /// member does not lead, or another change is under way.
    pub async fn reconfigure(&self, from: &Configuration, voters: BTreeSet<u64>, learners: &BTreeSet<u64>) -> io::Result<bool> {
        let last = {
            let metrics = self.raft.metrics();
            let m = metrics.borrow_watched();
            *m.membership_config.log_id()
        };
        if self.configuration() != *from || !from.settled {
            return Ok(false);
        }
        let nodes: BTreeMap<u64, EmptyNode> = voters.iter().chain(learners).map(|id| (*id, EmptyNode {})).collect();
        let membership = RaftMembership::new(vec![voters], nodes).map_err(io::Error::other)?;
        let unchanged = Precondition::<Types>::LastMembershipLogId { last_membership_log_id: last };
        match self.raft.append_membership(membership, EntryPayload::Blank, [unchanged]).await {
            Ok(_) => Ok(true),
            Err(openraft::errors::RaftError::APIError(e)) => {
                tracing::debug!(error = %e, "the members cannot be changed now");
                Ok(false)
            }
            Err(e) => Err(io::Error::other(e.to_string())),
        }
    }

    /// How far each other member is, as the leader knows it; empty on others.
    #[must_use]
    pub fn progress(&self) -> BTreeMap<u64, Progress> {
        let metrics = self.raft.metrics();
        let m = metrics.borrow_watched();
        let mut all: BTreeMap<u64, Progress> = BTreeMap::new();
        for (id, matched) in m.replication.iter().flatten().filter(|(id, _)| **id != self.member_id) {
            all.entry(*id).or_default().matched = matched.as_ref().map(|id| id.index);
        }
        for (id, at) in m.heartbeat.iter().flatten().filter(|(id, _)| **id != self.member_id) {
            all.entry(*id).or_default().answered = at.as_ref().map(|at| at.elapsed());
        }
        all
    }

    /// Asks another voter to lead, and returns at once.
    pub async fn hand_over(&self, to: u64) -> io::Result<()> {
        self.raft.trigger().transfer_leader(to).await.map_err(|e| io::Error::other(e.to_string()))
    }
}
