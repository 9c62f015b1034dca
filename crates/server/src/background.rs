//! What a member does by itself: expires leases, compacts, and removes what was compacted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keelson_api::etcdserverpb::CompactionRequest;
use keelson_api::keelson::LeaseRevoke;
use keelson_api::keelson::command::Action;
use keelson_api::{Error, format};
use keelson_state::Reply;
use keelson_storage::DataDir;

use crate::config::AutoCompaction;
use crate::corruption;
use crate::member::Member;

/// How often ended leases are looked for, and how many are revoked each time at most.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);
const EXPIRY_LIMIT: usize = 500;

/// How long removal waits for a long read to move on.
const HELD: Duration = Duration::from_millis(50);

/// How often the cluster's format is looked at, and how long to wait when it could not be written down.
const FORMAT_INTERVAL: Duration = Duration::from_millis(100);
const FORMAT_AGAIN: Duration = Duration::from_secs(10);

/// While clients write, a step of removal is followed by a pause of so many times its length.
const YIELD: u32 = 14;

/// Writes down which format the data has come to have, so that an older build refuses the directory before it reads
/// anything in it. One that is started before this has happened refuses the command that raised the format.
pub async fn raise_format_of_data(member: Arc<Member>, data_dir: Arc<DataDir>) {
    let mut written = format::OLDEST;
    loop {
        tokio::time::sleep(FORMAT_INTERVAL).await;
        let format = member.state.format();
        if format == written {
            continue;
        }
        let raised = {
            let data_dir = data_dir.clone();
            tokio::task::spawn_blocking(move || data_dir.raise(format)).await
        };
        match raised {
            Ok(Ok(())) => {
                tracing::info!(format, "the cluster has this format; older builds of keelson can no longer be members");
                written = format;
            }
            Ok(Err(e)) => {
                tracing::warn!(error = %e, format, "the format could not be written down; it will be tried again");
                tokio::time::sleep(FORMAT_AGAIN).await;
            }
            Err(_) => return,
        }
    }
}

/// Revokes leases that have ended. Only a leader that has just proved itself may: its clock could
/// be that of a leader which others have renewed leases after.
pub async fn expire_leases(member: Arc<Member>) {
    let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut led = 0;
    loop {
        interval.tick().await;
        let status = member.status();
        if status.is_leader && std::mem::replace(&mut led, status.term) != status.term {
            member.lessor.begin_anew(Duration::from_millis(member.config.election_ms));
        }
        if !status.is_leader || member.read_barrier().await.is_err() || member.status().term != status.term {
            continue;
        }
        let ended = member.lessor.take_ended(EXPIRY_LIMIT);
        let revokes = ended.into_iter().map(|id| revoke_ended(&member, id, status.term));
        futures::future::join_all(revokes).await;
    }
}

async fn revoke_ended(member: &Member, id: i64, term: u64) {
    match member.propose(Action::LeaseRevoke(LeaseRevoke { id, expired_in_term: term })).await {
        Ok(Reply::LeaseRevoke { .. }) => member.metrics.leases_expired.inc(),
        // The term has moved on: the leader of the new one decides anew.
        Ok(_) => member.lessor.give_back(id),
        Err(Error::LeaseNotFound) => member.lessor.revoked(id),
        // It lives on until the alarm is disarmed, which the alarm itself has told.
        Err(Error::Corrupt) => member.lessor.give_back(id),
        Err(e) => {
            tracing::warn!(lease = format!("{id:016x}"), error = %e, "an ended lease could not be revoked; it will be tried again");
            member.lessor.give_back(id);
        }
    }
}

/// Election timeouts without a leader after which streams are ended that want one.
const LEADERLESS_ROUNDS: u32 = 3;

/// Counts elections that gave a leader.
pub async fn count_leaders(member: Arc<Member>) {
    let mut term = 0;
    loop {
        term = member.node.led_after(term).await;
        *member.leader_elected.lock() = Some(Instant::now());
        member.metrics.leader_changes.inc();
    }
}

/// Ends the streams of clients that want a leader once there has been none for long. Opening a stream anew costs
/// far more than one more call, so a short time without is none of their business.
pub async fn end_streams_without_leader(member: Arc<Member>) {
    let election = Duration::from_millis(member.config.election_ms);
    let mut rounds = 0;
    loop {
        tokio::time::sleep(election).await;
        rounds = if member.status().leader.is_none() { rounds + 1 } else { 0 };
        if rounds >= LEADERLESS_ROUNDS {
            member.leader_lost.send_modify(|times| *times += 1);
        }
    }
}

/// Removes compacted versions in small steps on a thread of its own, until the process stops. While
/// clients write it keeps to a small share of the time.
pub fn remove_compacted(member: &Arc<Member>) {
    let store = member.state.store.clone();
    let mut revision = store.revision();
    while !*member.stopping.borrow() {
        let begun = Instant::now();
        match store.remove_step(member.config.removal_step) {
            Ok(progress) => {
                keelson_storage::failpoint::pass("compaction");
                member.metrics.upkeep.removed(progress.removed, begun.elapsed());
                if progress.done {
                    return;
                }
                if progress.held {
                    std::thread::sleep(HELD);
                }
            }
            Err(e) => {
                tracing::error!(error = %e, "compacted versions cannot be removed");
                member.removal.failed.store(true, Ordering::Release);
                return;
            }
        }
        let busy = std::mem::replace(&mut revision, store.revision()) != revision;
        let yielded = if busy { begun.elapsed() * YIELD } else { Duration::ZERO };
        std::thread::sleep(yielded.max(member.config.removal_pause));
    }
}

/// Runs the remover whenever a compaction was accepted.
pub async fn removal(member: Arc<Member>) {
    loop {
        let wanted = member.removal.wanted.notified();
        if member.state.store.removal_pending() {
            corruption::note_compaction(&member).await;
            let begun = Instant::now();
            let m = member.clone();
            if tokio::task::spawn_blocking(move || remove_compacted(&m)).await.is_err() {
                return;
            }
            member.metrics.upkeep.removal_ended(begun.elapsed());
            // Removal goes on to what was accepted meanwhile, which has not been noted.
            corruption::note_compaction(&member).await;
            member.removal.finished.notify_waiters();
            tracing::info!(
                compact_revision = member.state.store.compacted(),
                took = format!("{:?}", begun.elapsed()),
                "finished scheduled compaction"
            );
        }
        wanted.await;
    }
}

/// Compacts by time or by number of revisions, as configured.
pub async fn auto_compaction(member: Arc<Member>) {
    match member.config.auto_compaction {
        AutoCompaction::Off => {}
        AutoCompaction::Revision(keep) => by_revision(&member, keep).await,
        AutoCompaction::Periodic(keep) => by_time(&member, keep).await,
    }
}

async fn compact(member: &Member, revision: i64) {
    if !member.status().is_leader || revision <= member.state.store.compacted().max(0) {
        return;
    }
    match member.propose(Action::Compact(CompactionRequest { revision, physical: false })).await {
        Ok(_) => tracing::info!(revision, "completed auto compaction"),
        Err(Error::Compacted) => {}
        Err(e) => tracing::warn!(revision, error = %e, "auto compaction failed; it will be tried again"),
    }
}

async fn by_revision(member: &Member, keep: i64) {
    let mut interval = tokio::time::interval(Duration::from_secs(300));
    interval.tick().await;
    loop {
        interval.tick().await;
        compact(member, member.state.store.revision() - keep).await;
    }
}

/// Notes the revision ten times per period and compacts to the one noted a period ago; periods
/// above an hour are compacted every hour, as etcd does.
async fn by_time(member: &Member, keep: Duration) {
    let every = (keep.min(Duration::from_secs(3600)) / 10).max(Duration::from_millis(1));
    let mut interval = tokio::time::interval(every);
    let mut noted: VecDeque<(Instant, i64)> = VecDeque::new();
    let mut last = Instant::now();
    loop {
        interval.tick().await;
        let now = Instant::now();
        noted.push_back((now, member.state.store.revision()));
        let mut target = None;
        while let Some((at, revision)) = noted.front().copied().filter(|(at, _)| now.duration_since(*at) >= keep) {
            noted.pop_front();
            target = Some((at, revision));
        }
        if let Some((at, revision)) = target {
            if now.duration_since(last) >= keep.min(Duration::from_secs(3600)) {
                last = now;
                compact(member, revision).await;
            } else {
                noted.push_front((at, revision));
            }
        }
    }
}
