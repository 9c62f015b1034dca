//! Looks after the other members: whether they can be reached, and how far away they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::member::Member;

/// How often each member is asked something.
const INTERVAL: Duration = Duration::from_secs(5);

/// Asks all others for a sign of life, again and again.
pub async fn probe(member: Arc<Member>) {
    let mut known = BTreeSet::new();
    loop {
        let now: BTreeSet<u64> = member.state.members().iter().map(|m| m.id).collect();
        for gone in known.difference(&now) {
            member.metrics.peers.is_known(*gone, false);
            member.metrics.peers.is_active(*gone, false);
        }
        now.iter().for_each(|id| member.metrics.peers.is_known(*id, true));
        let others = now.iter().copied().filter(|id| *id != member.member_id);
        futures::future::join_all(others.map(|id| ask(&member, id))).await;
        known = now;
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn ask(member: &Member, id: u64) {
    let begun = Instant::now();
    let answered = matches!(tokio::time::timeout(INTERVAL, member.peers.sign_of_life(id)).await, Ok(Ok(())));
    if answered {
        member.metrics.peers.answered(id, begun.elapsed());
    }
    member.metrics.peers.is_active(id, answered);
}
