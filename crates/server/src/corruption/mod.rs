//! Whether all members have the same data. Equal logs give equal state, so a difference is damage: of a disk,
//! of memory, or a bug. Members compare checksums before one of them serves, now and then, and after each
//! compaction; who differs is named in an alarm, and while that is raised nobody takes writes.

mod judge;
mod kept;
mod scans;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_api::Error;
use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::{AlarmRequest, AlarmType};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::peer::{HashReply, HashRequest};
use keelson_mvcc::HashResult;

use crate::member::{Member, State, read_error};
use crate::peer::PeerTransport;
use judge::{Said, Verdict};

pub use kept::KeptHashes;
pub use scans::Scans;

/// How long a member may take to read through its data.
const HASH_LIMIT: Duration = Duration::from_secs(60);

/// The data of this member differs from that of others.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Differs {
    /// What differs, and what to do about it.
    pub text: String,
    /// Most members agree on other data than this one's.
    pub is_alone: bool,
}

/// Checksum of this member's data at `revision` (0: newest). The hash of a past compaction is remembered.
pub async fn hash_at(member: &Arc<Member>, revision: i64) -> Result<HashResult, Error> {
    if let Some(kept) = member.kept_hashes.at(revision) {
        return Ok(HashResult { current: member.state.store.revision(), ..kept });
    }
    let begun = Instant::now();
    let state = member.state.clone();
    let hashed = member.scans.run(HASH_LIMIT, move || state.store.hash(revision)).await;
    member.metrics.hash_rev.observe(begun.elapsed().as_secs_f64());
    hashed?.map_err(read_error)
}

/// Answers another member.
pub async fn answer(member: &Arc<Member>, request: HashRequest) -> HashReply {
    match hash_at(member, request.revision).await {
        Ok(HashResult { hash, revision, compacted, current }) => {
            HashReply { hash, revision, compacted, current, error: String::new() }
        }
        Err(e) => HashReply { error: e.text().to_owned(), ..HashReply::default() },
    }
}

/// Asks all others for their checksum at `revision`.
async fn ask_others(peers: &PeerTransport, others: Vec<u64>, revision: i64) -> Vec<Said> {
    let ask = |id| async move {
        let asked = tokio::time::timeout(HASH_LIMIT, peers.ask::<HashReply>(id, "Hash", &HashRequest { revision })).await;
        let hash = match asked {
            Ok(Ok(HashReply { hash, revision, compacted, current, error })) if error.is_empty() => {
                Ok(HashResult { hash, revision, compacted, current })
            }
            Ok(Ok(reply)) => Err(reply.error),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!("no answer within {HASH_LIMIT:?}")),
        };
        if let Err(why) = &hash {
            tracing::warn!(member_id = format!("{id:x}"), revision, why, "cannot compare data with a member");
        }
        Said { id, hash: hash.ok() }
    };
    futures::future::join_all(others.into_iter().map(ask)).await
}

fn others(state: &State, me: u64) -> Vec<u64> {
    state.members().iter().map(|m| m.id).filter(|id| *id != me).collect()
}

/// Before a member serves: compares what it finds on its disk with the others. Who cannot be asked counts for
/// nothing, or no cluster could start.
pub async fn before_serving(state: Arc<State>, peers: &PeerTransport, me: u64) -> anyhow::Result<()> {
    let hashing = state.clone();
    let own = tokio::task::spawn_blocking(move || hashing.store.hash(0)).await??;
    let said = ask_others(peers, others(&state, me), own.revision).await;
    let compared = said.iter().filter(|s| s.comparable(&own).is_some()).count();
    let text = |who: &[u64]| {
        let who: Vec<String> = who.iter().map(|id| format!("{id:x}")).collect();
        format!(
            "found data inconsistency with peers: at revision {} member {me:x} has other data than {}",
            own.revision,
            who.join(", ")
        )
    };
    match judge::by_majority(me, &own, &said) {
        Verdict::Equal | Verdict::Unfinished => {
            tracing::info!(revision = own.revision, compared, "initial corruption checking passed; no corruption");
            Ok(())
        }
        Verdict::Suspects(who) if who.contains(&me) => {
            let text = format!(
                "{}, and most agree with those: the data of this member is damaged. Remove it from the cluster, empty its \
                 data directory and add it again",
                text(
                    &said.iter().filter(|s| s.comparable(&own).is_some_and(|h| h != own.hash)).map(|s| s.id).collect::<Vec<_>>()
                )
            );
            Err(Differs { text, is_alone: true }.into())
        }
        Verdict::Suspects(who) => {
            tracing::error!("{}; most agree with this one, so it starts", text(&who));
            Ok(())
        }
        Verdict::Undecided(who) => {
            let text = format!(
                "{}, and no majority says which is right. Compare them with `etcdctl endpoint hashkv --cluster`, replace \
                 the member that is damaged, or start without --feature-gates=InitialCorruptCheck=true",
                text(&who)
            );
            Err(Differs { text, is_alone: false }.into())
        }
    }
}

async fn raise(member: &Member, id: u64) {
    let known = member.state.alarms().iter().any(|a| a.member_id == id && a.alarm == i32::from(AlarmType::Corrupt));
    if known {
        return;
    }
    tracing::error!(
        member_id = format!("{id:x}"),
        "members have different data; raising the alarm, writes are refused from now on"
    );
    let raise = AlarmRequest { action: AlarmAction::Activate.into(), member_id: id, alarm: AlarmType::Corrupt.into() };
    if let Err(e) = member.propose(Action::Alarm(raise)).await {
        tracing::error!(error = %e, "the alarm could not be raised; the next check will try again");
    }
}

async fn raise_for(member: &Member, verdict: Verdict) {
    match verdict {
        Verdict::Equal | Verdict::Unfinished => {}
        Verdict::Suspects(who) => {
            for id in who {
                raise(member, id).await;
            }
        }
        // Nobody knows who is right: the alarm names nobody.
        Verdict::Undecided(_) => raise(member, 0).await,
    }
}

/// Compares everybody's data every now and then, while this member leads.
pub async fn now_and_then(member: Arc<Member>) {
    let every = member.config.corrupt_check_interval;
    if every.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(every).await;
        if !member.status().is_leader {
            continue;
        }
        if let Err(e) = compare_now(&member).await {
            tracing::warn!(error = %e, "data could not be compared; it will be tried again");
        }
    }
}

async fn compare_now(member: &Arc<Member>) -> Result<(), Error> {
    let before = hash_at(member, 0).await?;
    let said = ask_others(&member.peers, others(&member.state, member.member_id), before.revision).await;
    // What a follower has told was committed by now; this member has it too, if it still leads.
    member.read_barrier().await?;
    let now = (member.state.store.revision(), member.state.store.compacted());
    let ahead = judge::ahead(now, &said);
    for id in &ahead {
        raise(member, *id).await;
    }
    if ahead.is_empty() {
        raise_for(member, judge::by_majority(member.member_id, &before, &said)).await;
    }
    let compared = said.iter().filter(|s| s.comparable(&before).is_some()).count();
    tracing::info!(revision = before.revision, compared, "finished peer corruption check");
    Ok(())
}

/// Remembers the checksum at the compacted revision, while there is something to compare it with.
pub async fn note_compaction(member: &Arc<Member>) {
    let revision = member.state.store.compacted();
    if !member.config.gates.compact_hash_check || revision < 0 || member.kept_hashes.at(revision).is_some() {
        return;
    }
    // An error means that there is a newer compaction already, which has its own turn.
    if let Ok(hash) = hash_at(member, revision).await {
        member.kept_hashes.keep(hash);
    }
}

/// Compares the checksums of past compactions, while this member leads.
pub async fn of_compactions(member: Arc<Member>) {
    if !member.config.gates.compact_hash_check {
        return;
    }
    let mut checked = 0;
    loop {
        tokio::time::sleep(member.config.compact_hash_interval).await;
        if !member.status().is_leader {
            continue;
        }
        for own in member.kept_hashes.newer_than(checked) {
            let said = ask_others(&member.peers, others(&member.state, member.member_id), own.revision).await;
            match judge::by_majority(member.member_id, &own, &said) {
                // Somebody could not be compared: an older one may do.
                Verdict::Unfinished => continue,
                Verdict::Equal => {
                    checked = own.revision;
                    tracing::info!(revision = own.revision, "successfully checked hash on whole cluster");
                }
                differing => raise_for(&member, differing).await,
            }
            break;
        }
    }
}
