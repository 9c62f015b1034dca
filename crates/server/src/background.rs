//! What a member does by itself: expires leases, and removes what was compacted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keelson_api::keelson::LeaseRevoke;
use keelson_api::keelson::command::Action;
use keelson_api::{Error, format};
use keelson_state::Reply;
use keelson_storage::DataDir;

use crate::corruption;
use crate::member::Member;

/// How often ended leases are looked for, and how many are revoked each time at most.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);
const EXPIRY_LIMIT: usize = 500;

/// How long removal waits for a long read to move on.
const HELD: Duration = Duration::from_millis(50);

/// How long to wait when the cluster's format could not be written down.
const FORMAT_AGAIN: Duration = Duration::from_secs(10);

/// While clients write, a step of removal is followed by a pause of so many times its length.
const YIELD: u32 = 14;

/// Writes down which format the data has come to have, so that an older build refuses the directory before it reads
/// anything in it. One that is started before this has happened refuses the command that raised the format.
pub async fn raise_format_of_data(member: Arc<Member>, data_dir: Arc<DataDir>) {
    let mut changes = member.members_changed.subscribe();
    let mut written = format::OLDEST;
    loop {
        let format = member.state.format();
        if format == written {
            // It is part of the member list.
            if changes.changed().await.is_err() {
                return;
            }
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

/// Revokes leases that have ended, while this member leads.
pub async fn expire_leases(member: Arc<Member>) {
    let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let ended = member.node.take_ended_leases(&member.lessor, EXPIRY_LIMIT);
        let Ok(Ok((term, ended))) = tokio::time::timeout(member.request_timeout(), ended).await else { continue };
        let revokes = ended.into_iter().map(|id| revoke_ended(&member, id, term));
        futures::future::join_all(revokes).await;
    }
}

async fn revoke_ended(member: &Member, id: i64, term: u64) {
    let reply = member.propose(Action::LeaseRevoke(LeaseRevoke { id, expired_in_term: term })).await;
    member.lessor.proposed(id, &reply);
    match reply {
        Ok(Reply::LeaseRevoke { .. }) => member.metrics.leases_expired.inc(),
        // The term has moved on: the leader of the new one decides anew.
        Ok(_) | Err(Error::LeaseNotFound) => {}
        // It lives on until the alarm is disarmed, which the alarm itself has told.
        Err(Error::Corrupt) => {}
        Err(e) => {
            tracing::warn!(lease = format!("{id:016x}"), error = %e, "an ended lease could not be revoked; it will be tried again");
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
