//! Who leads, as far as this member knows.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::node::Raft;

/// How long a member waits before it looks again whether there is a leader.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A leader and its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    pub(crate) leader: u64,
    pub(crate) term: u64,
}

/// The leader that this member follows, or is.
pub(crate) fn current(raft: &Raft) -> Option<Lead> {
    let metrics = raft.metrics();
    let m = metrics.borrow_watched();
    m.current_leader.map(|leader| Lead { leader, term: m.current_term })
}

/// Gives an election, or a leader that cannot prove itself yet, a moment.
pub(crate) async fn wait_a_moment() {
    tokio::time::sleep(LOOK_AGAIN).await;
}
