//! Changing who takes part. openraft acts on a membership when it is appended, so each change here is
//! one step: any number of learners, or one voter more or less. The member list says where the steps lead.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use keelson_state::Member;
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

impl Configuration {
    /// The voters and learners after the next step to what the member list says, if one is needed. `me` is who leads.
    #[must_use]
    pub fn next_step(&self, list: &[Member], me: u64, caught_up: impl Fn(u64) -> bool) -> Option<(BTreeSet<u64>, BTreeSet<u64>)> {
        let listed: BTreeSet<u64> = list.iter().map(|m| m.id).collect();
        let mut voters = self.voters.clone();
        let mut learners: BTreeSet<u64> = self.learners.intersection(&listed).copied().collect();
        learners.extend(listed.difference(&self.voters));
        let wanted = |id: &u64| list.iter().any(|m| m.id == *id && !m.is_learner);
        let ready = |id: &u64| wanted(id) && self.learners.contains(id) && caught_up(*id);
        // One voter at a time, and this member last of all.
        let leaving = self.voters.iter().filter(|id| !listed.contains(id)).max_by_key(|id| **id != me);
        if let Some(leaving) = leaving.filter(|_| self.voters.len() > 1) {
            voters.remove(leaving);
        } else if let Some(ready) = learners.iter().copied().find(ready) {
            learners.remove(&ready);
            voters.insert(ready);
        }
        (voters != self.voters || learners != self.learners).then_some((voters, learners))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(voters: &[u64], learners: &[u64]) -> Vec<Member> {
        let member = |id: &u64, is_learner| Member { id: *id, is_learner, ..Member::default() };
        voters.iter().map(|id| member(id, false)).chain(learners.iter().map(|id| member(id, true))).collect()
    }

    fn configuration(voters: &[u64], learners: &[u64]) -> Configuration {
        Configuration { voters: voters.iter().copied().collect(), learners: learners.iter().copied().collect(), settled: true }
    }

    #[test]
    fn consensus_gets_to_any_list_one_voter_at_a_time_and_the_leader_leaves_last() {
        let lists: &[(&[u64], &[u64])] = &[(&[1], &[]), (&[1, 2], &[]), (&[2, 3, 4], &[6]), (&[5], &[]), (&[1, 2, 3, 4, 5], &[])];
        for (from, from_learners) in lists {
            for (to, to_learners) in lists {
                let list = listed(to, to_learners);
                let mut now = configuration(from, from_learners);
                let me = *from.first().unwrap();
                for steps in 0.. {
                    assert!(steps < 20, "{from:?} to {to:?} goes round in circles");
                    let Some((voters, learners)) = now.next_step(&list, me, |_| true) else { break };
                    assert!(voters.symmetric_difference(&now.voters).count() <= 1, "{now:?} to {voters:?}");
                    assert!(!voters.is_empty());
                    if now.voters.contains(&me) && !voters.contains(&me) {
                        assert!(now.voters.iter().all(|v| *v == me || to.contains(v)), "the leader left before others");
                    }
                    now = Configuration { voters, learners, settled: true };
                }
                let want = configuration(to, to_learners);
                assert!(now == want, "{from:?} to {to:?} ended at {now:?}");
            }
        }
    }

    #[test]
    fn a_voter_that_has_not_caught_up_has_no_vote_yet() {
        let step = configuration(&[1], &[]).next_step(&listed(&[1, 2], &[]), 1, |_| false).unwrap();
        assert_eq!((step.0.len(), step.1.len()), (1, 1));
        assert_eq!(configuration(&[1], &[2]).next_step(&listed(&[1, 2], &[]), 1, |_| false), None);
        assert_eq!(configuration(&[1], &[2]).next_step(&listed(&[1], &[2]), 1, |_| true), None);
    }
}
