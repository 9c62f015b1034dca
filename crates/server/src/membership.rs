//! Members that come, change and go. The member list is replicated state and says who shall take part;
//! the leader leads consensus there, one safe step at a time. So an added voter gets its vote once it
//! has caught up: until then the others decide without it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keelson_api::etcdserverpb::{MemberAddRequest, MemberUpdateRequest};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::{ClusterVersion, MemberAdd, MemberPromote, MemberRemove, MemberUpdate, peer};
use keelson_api::{Error, identity};
use keelson_consensus::Configuration;

use crate::member::{End, Member};
use crate::version;

/// A member counts as healthy once it has been reachable for so long.
const HEALTHY: Duration = Duration::from_secs(5);
/// How often the leader looks whether consensus is where the list is.
const INTERVAL: Duration = Duration::from_millis(200);
/// A learner may vote once it has nine tenths of the leader's log...
const READY: (u64, u64) = (9, 10);
/// ...and a voter that was just added, once it is so many entries behind at most.
const CLOSE: u64 = 1000;
/// A removed follower whose vote is still counted waits so many election timeouts for the leader to take it away.
const VOTE_ROUNDS: u32 = 5;

type Listed = keelson_state::Member;

struct Voters {
    all: Vec<Listed>,
}

impl Voters {
    fn of(member: &Member) -> Self {
        Self { all: member.state.members().into_iter().filter(|m| !m.is_learner).collect() }
    }

    fn started(&self) -> usize {
        self.all.iter().filter(|m| !m.name.is_empty()).count()
    }

    fn reachable(&self, member: &Member) -> usize {
        self.all.iter().filter(|m| member.is_reachable(m.id, HEALTHY)).count()
    }
}

/// Whether this member has been connected to most voters for so long.
pub fn has_quorum_since(member: &Member, since: Duration) -> bool {
    let voters = Voters::of(member).all;
    voters.iter().filter(|m| member.is_reachable(m.id, since)).count() >= quorum(voters.len())
}

const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn may_add(member: &Member, is_learner: bool) -> Result<(), Error> {
    if !member.config.strict_reconfig {
        return Ok(());
    }
    let voters = Voters::of(member);
    let (count, started) = (voters.all.len(), voters.started());
    // One started member may become two, or no cluster could grow.
    let grows_from_one = started == 1 && count == 1;
    if !is_learner && !grows_from_one && started < quorum(count + 1) {
        return Err(Error::MemberNotEnoughStarted);
    }
    if count > 1 && voters.reachable(member) < quorum(count + 1) {
        return Err(Error::Unhealthy);
    }
    Ok(())
}

/// Adds a member and answers its id.
pub async fn add(member: &Arc<Member>, request: &MemberAddRequest) -> Result<u64, Error> {
    may_add(member, request.is_learner)?;
    let mut peer_urls = request.peer_ur_ls.clone();
    peer_urls.sort();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let id = identity::added_member_id(&peer_urls, seconds);
    let is_learner = request.is_learner;
    let max_learners = member.config.max_learners;
    member.propose(Action::MemberAdd(MemberAdd { id, peer_urls, is_learner, max_learners })).await?;
    tracing::info!(member_id = format!("{id:x}"), is_learner, "added a member");
    member.members_changed.send_replace(());
    // From here on the leader sends it the log as soon as it can be reached.
    until(member, |c| c.voters.contains(&id) || c.learners.contains(&id)).await?;
    Ok(id)
}

fn may_remove(member: &Member, id: u64) -> Result<(), Error> {
    let listed = member.state.members().into_iter().find(|m| m.id == id);
    if !member.config.strict_reconfig || listed.is_some_and(|m| m.is_learner) {
        return Ok(());
    }
    let voters = Voters::of(member);
    let left = voters.all.iter().filter(|m| m.id != id);
    let (rest, started) = left.fold((0, 0), |(n, s), m| (n + 1, s + usize::from(!m.name.is_empty())));
    if rest == 0 || started < quorum(rest) {
        return Err(Error::MemberNotEnoughStarted);
    }
    let gone = id != member.member_id && !member.is_reachable(id, Duration::ZERO);
    if gone || voters.all.iter().all(|m| m.id != id) {
        return Ok(());
    }
    if voters.reachable(member).saturating_sub(1) < quorum(rest) { Err(Error::Unhealthy) } else { Ok(()) }
}

/// Removes a member; done once it has no say any more.
pub async fn remove(member: &Arc<Member>, id: u64) -> Result<(), Error> {
    may_remove(member, id)?;
    member.propose(Action::MemberRemove(MemberRemove { id })).await?;
    tracing::info!(member_id = format!("{id:x}"), "removed a member");
    member.members_changed.send_replace(());
    if id == member.member_id {
        return Ok(());
    }
    until(member, |c| !c.voters.contains(&id) && !c.learners.contains(&id)).await
}

/// Gives a member other peer URLs.
pub async fn update(member: &Arc<Member>, request: MemberUpdateRequest) -> Result<(), Error> {
    let mut peer_urls = request.peer_ur_ls;
    peer_urls.sort();
    member.propose(Action::MemberUpdate(MemberUpdate { id: request.id, peer_urls })).await.map(|_| ())
}

/// Makes a learner a voter.
pub async fn promote(member: &Arc<Member>, id: u64) -> Result<(), Error> {
    let promoted = try_promote(member, id).await;
    match &promoted {
        Ok(()) => member.metrics.promoted.inc(),
        Err(e) => member.metrics.not_promoted.with_label_values(&[e.text()]).inc(),
    }
    promoted
}

async fn try_promote(member: &Arc<Member>, id: u64) -> Result<(), Error> {
    may_promote(member, id)?;
    member.propose(Action::MemberPromote(MemberPromote { id })).await?;
    member.members_changed.send_replace(());
    until(member, |c| c.voters.contains(&id)).await
}

fn may_promote(member: &Member, id: u64) -> Result<(), Error> {
    let listed = member.state.members().into_iter().find(|m| m.id == id);
    let is_learner = listed.ok_or(Error::MemberNotFound)?.is_learner;
    if !is_learner {
        return Err(Error::MemberNotLearner);
    }
    let committed = member.status().committed;
    let matched = member.node.progress().get(&id).and_then(|p| p.matched).unwrap_or(0);
    if matched * READY.1 < committed * READY.0 {
        return Err(Error::LearnerNotReady);
    }
    if member.config.strict_reconfig {
        let voters = Voters::of(member);
        if voters.started() + 1 < quorum(voters.all.len() + 1) {
            return Err(Error::MemberNotEnoughStarted);
        }
    }
    Ok(())
}

/// Makes voters of learners that are close behind and can be reached, so that nobody has to wait for them and ask.
async fn promote_who_is_ready(member: &Member) {
    let (progress, committed) = (member.node.progress(), member.status().committed);
    let is_ready = |m: &Listed| {
        let close = progress.get(&m.id).and_then(|p| p.matched).is_some_and(|matched| matched + CLOSE >= committed);
        m.is_learner && !m.name.is_empty() && close && member.is_reachable(m.id, HEALTHY) && may_promote(member, m.id).is_ok()
    };
    for ready in member.state.members().iter().filter(|m| is_ready(m)) {
        match member.propose(Action::MemberPromote(MemberPromote { id: ready.id })).await {
            Ok(_) => {
                tracing::info!(member_id = format!("{:x}", ready.id), "promoted a learner that has caught up");
                member.metrics.promoted.inc();
            }
            Err(e) => tracing::warn!(error = %e, "a learner that has caught up could not be promoted; it will be tried again"),
        }
    }
}

/// Raises the cluster's format, now that all members understand a newer one.
async fn raise_format(member: &Member, format: u32) {
    let raised = ClusterVersion { version: version::CLUSTER.to_owned(), format };
    if let Err(e) = member.propose(Action::ClusterVersion(raised)).await {
        tracing::warn!(error = %e, format, "the cluster's format could not be raised; it will be tried again");
    }
}

async fn until(member: &Member, reached: impl Fn(&Configuration) -> bool) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + member.request_timeout();
    while !reached(&member.node.configuration()) {
        if tokio::time::Instant::now() >= deadline {
            return Err(Error::Timeout);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Leads consensus to what the member list says, while this member is leader.
pub async fn follow_list(member: Arc<Member>) {
    let patience = VOTE_ROUNDS * Duration::from_millis(member.config.election_ms);
    let mut changes = member.members_changed.subscribe();
    let mut removed: Option<Instant> = None;
    loop {
        // Woken for speed; the interval is for what a wake cannot tell, such as a learner catching up.
        let _ = tokio::time::timeout(INTERVAL, changes.changed()).await;
        let leads = member.status().is_leader;
        if member.state.is_removed(member.member_id) {
            let waited = removed.get_or_insert_with(Instant::now).elapsed();
            if may_leave(member.node.configuration().voters.contains(&member.member_id), leads, waited, patience) {
                member.end.send_replace(Some(End::Removed));
                return;
            }
        }
        if !leads {
            continue;
        }
        if member.config.promotes_learners {
            promote_who_is_ready(&member).await;
        }
        if let Err(e) = step(&member).await {
            tracing::warn!(error = %e, "the members of consensus could not be changed; it will be tried again");
        }
        // A removed member of an older build ends when the format rises: not before its vote is taken away, which may need it.
        let follows = |m: &Member| m.node.configuration().settled && planned(m).is_none();
        if let Some(format) = member.state.next_format().filter(|_| follows(&member)) {
            raise_format(&member, format).await;
        }
    }
}

/// Whether a removed member may end. While its vote is counted, the others may need it to take that vote away; but a
/// follower may never hear that they have.
const fn may_leave(votes: bool, leads: bool, waited: Duration, patience: Duration) -> bool {
    !votes || (!leads && waited.as_millis() > patience.as_millis())
}

/// A step, and who is out after it.
struct Step {
    from: Configuration,
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    out: Vec<u64>,
}

fn planned(member: &Member) -> Option<Step> {
    let list = member.state.members();
    let from = member.node.configuration();
    if list.is_empty() || !from.settled {
        return None;
    }
    let progress = member.node.progress();
    let committed = member.status().committed;
    let caught_up = |id| progress.get(&id).and_then(|p| p.matched).is_some_and(|m| m + CLOSE >= committed);
    let (voters, learners) = from.next_step(&list, member.member_id, caught_up)?;
    let out = from.voters.union(&from.learners).filter(|id| !voters.contains(id) && !learners.contains(id)).copied().collect();
    Some(Step { from, voters, learners, out })
}

async fn step(member: &Arc<Member>) -> std::io::Result<()> {
    let mut step = planned(member);
    if step.as_ref().is_some_and(|s| !s.out.is_empty()) {
        // A leader that has just begun may not have applied yet that somebody was added: the list would lack it.
        member.read_barrier().await.map_err(std::io::Error::other)?;
        step = planned(member);
    }
    let Some(Step { from, voters, learners, out }) = step else { return Ok(()) };
    if member.node.reconfigure(&from, voters, &learners).await? {
        for id in out.into_iter().filter(|id| *id != member.member_id && member.state.is_removed(*id)) {
            tell_removed(member, id);
        }
    }
    Ok(())
}

/// Tells a member that it was removed. It hears no more of the log, and would not find out by itself.
fn tell_removed(member: &Arc<Member>, id: u64) {
    let member = member.clone();
    tokio::spawn(async move {
        let message = peer::RemovedRequest { member_id: id };
        // If it cannot be told now, it is told when it calls.
        let _ = tokio::time::timeout(HEALTHY, member.peers.ask::<peer::RemovedReply>(id, "Removed", &message)).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_follower_stays_while_its_vote_is_counted_but_not_for_ever() {
        let (soon, patience) = (Duration::from_secs(1), Duration::from_secs(5));
        assert!(!may_leave(true, false, soon, patience) && may_leave(true, false, patience * 2, patience));
        assert!(may_leave(false, false, Duration::ZERO, patience) && may_leave(false, true, Duration::ZERO, patience));
        assert!(!may_leave(true, true, patience * 2, patience), "a leader takes itself out");
    }
}
