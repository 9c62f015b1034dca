//! Handing leadership over: on request, and before this member stops. Nothing can call a handover back,
//! so it is begun only with a member that has what it takes.

use std::sync::Arc;
use std::time::Duration;

use keelson_api::Error;

use crate::member::Member;

/// A member that has not answered for so long is not asked to lead.
const SILENT: Duration = Duration::from_millis(500);
/// Entries that it may lack at the start: they reach it during the handover.
const CLOSE: u64 = 5000;
/// How often to look whether it is done.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether a voter could take over right now.
fn is_ready(member: &Member, id: u64) -> bool {
    let committed = member.status().committed;
    member
        .node
        .progress()
        .get(&id)
        .is_some_and(|p| p.matched.is_some_and(|m| m + CLOSE >= committed) && p.answered.is_some_and(|ago| ago < SILENT))
}

/// Makes another voter leader, and waits until it is.
pub async fn to(member: &Member, id: u64) -> Result<(), Error> {
    if !is_ready(member, id) {
        return Err(Error::TimeoutLeaderTransfer);
    }
    tracing::info!(from = format!("{:x}", member.member_id), to = format!("{id:x}"), "leadership transfer starting");
    member.node.hand_over(id).await.map_err(|_| Error::Stopped)?;
    let done = async {
        while member.status().leader != Some(id) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(member.request_timeout(), done).await.map_err(|_| Error::TimeoutLeaderTransfer)?;
    tracing::info!(to = format!("{id:x}"), "leadership transfer finished");
    Ok(())
}

/// Hands over while a write of the log hangs: every write waits for this member's disk as long as it leads, and
/// a disk that hangs is no reason for anybody else to stand for election.
pub async fn when_disk_stalls(member: Arc<Member>) {
    let limit = member.config.disk_stall_limit;
    if limit.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep((limit / 4).max(LOOK_AGAIN)).await;
        let waits = member.log_waits.so_far();
        if waits < limit || !member.status().is_leader {
            continue;
        }
        tracing::warn!(waits = ?waits, "the disk hangs while this member leads; handing leadership over");
        away(&member).await;
    }
}

/// Before this member stops: gives leadership to the voter that is furthest, if this member has it.
pub async fn away(member: &Member) {
    if !member.status().is_leader {
        return;
    }
    let voters = member.node.configuration().voters;
    let progress = member.node.progress();
    let furthest = progress.iter().filter(|(id, _)| voters.contains(id) && is_ready(member, **id)).max_by_key(|(_, p)| p.matched);
    let Some((id, _)) = furthest else { return };
    let limit = Duration::from_millis(member.config.election_ms);
    match tokio::time::timeout(limit, to(member, *id)).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!(error = %e, "leadership could not be handed over; the others will elect"),
        Err(_) => tracing::warn!("leadership was not taken over in time; the others will elect"),
    }
}
