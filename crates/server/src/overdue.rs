//! Why a write was not done in time, as far as this member can tell. Clients choose by the text what to try next.

use std::time::{Duration, Instant};

use keelson_api::Error;

use crate::member::Member;
use crate::membership;

/// What is known of the time since the write began.
struct Since {
    begun: Instant,
    /// When the last leader was elected.
    elected: Option<Instant>,
    /// Without a leader for longer than this before it was elected, nobody can have been.
    election: Duration,
    /// Whether this member has been connected all the time to whom the write needs.
    connected: bool,
}

impl Since {
    fn reason(&self) -> Error {
        let lost_a_leader = self.elected.is_some_and(|elected| {
            let lost = elected.checked_sub(2 * self.election);
            self.begun < elected && lost.is_none_or(|lost| self.begun > lost)
        });
        if lost_a_leader {
            Error::TimeoutLeaderFail
        } else if self.connected {
            Error::Timeout
        } else {
            Error::TimeoutConnectionLost
        }
    }
}

/// Whether nobody knows what became of a write, and another try may do better.
pub const fn may_be_tried_again(error: Error) -> bool {
    use Error::{LeaderChanged, NoLeader, Timeout, TimeoutConnectionLost, TimeoutLeaderFail};
    matches!(error, Timeout | TimeoutLeaderFail | TimeoutConnectionLost | NoLeader | LeaderChanged)
}

/// The error for a write that began then and was not done in time.
pub fn reason(member: &Member, begun: Instant) -> Error {
    let connected = match member.status().leader {
        None => true,
        Some(leader) if leader == member.member_id => membership::has_quorum_since(member, begun.elapsed()),
        Some(leader) => member.is_reachable(leader, begun.elapsed()),
    };
    let election = Duration::from_millis(member.config.election_ms);
    Since { begun, elected: *member.leader_elected.lock(), election, connected }.reason()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_leader_counts_before_a_lost_connection_and_both_before_nothing() {
        let election = Duration::from_secs(1);
        let elected = Instant::now() + Duration::from_secs(60);
        let reason = |before: u64, elected, connected| {
            let begun = Instant::now() + Duration::from_secs(60) - Duration::from_secs(before);
            Since { begun, elected, election, connected }.reason()
        };
        assert_eq!(reason(1, Some(elected), true), Error::TimeoutLeaderFail);
        assert_eq!(reason(1, Some(elected), false), Error::TimeoutLeaderFail);
        assert_eq!(reason(5, Some(elected), true), Error::Timeout);
        assert_eq!(reason(5, Some(elected), false), Error::TimeoutConnectionLost);
        assert_eq!(reason(1, None, true), Error::Timeout);
        assert_eq!(reason(0, Some(elected - election), false), Error::TimeoutConnectionLost);
    }
}
