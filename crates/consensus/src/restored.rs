//! A cluster that begins with a state that it has not come to by its own log, such as one restored from a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use keelson_state::Position;
use keelson_storage::LogStore;
use openraft::EmptyNode;

use crate::codec;
use crate::fit::{finished, fit_log};
use crate::log::VOTE;
use crate::types::{RaftMembership, RaftVote};

/// Where such a state stands in the log: everything that it holds counts as one entry.
const TERM: u64 = 1;
const INDEX: u64 = 1;

/// Makes an empty log that of a member of a cluster of `voters`, which begins with a state. The answer is the position
/// that the state must be written with. Equal on all members, so that none of them has anything the others lack.
pub fn begin_with_state(log: &LogStore, voters: &BTreeSet<u64>) -> io::Result<Position> {
    let Some(first) = voters.first() else { return Err(io::Error::other("a cluster needs a member")) };
    let nodes: BTreeMap<u64, EmptyNode> = voters.iter().map(|id| (*id, EmptyNode {})).collect();
    let membership = RaftMembership::new(vec![voters.clone()], nodes).map_err(io::Error::other)?;
    let membership = codec::membership_row(Some(&codec::log_id(TERM, INDEX)), &membership);
    let position = Position { term: TERM, index: INDEX, membership: Some(membership) };
    fit_log(log, &position)?;
    // All have voted for the same one, in the term of what they have in common. With this, what came before it is on
    // disk as well.
    finished(|done| log.set_mark(VOTE, codec::encode_vote(&RaftVote::new(TERM, *first)), done))?;
    Ok(position)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fit::check_reach;
    use crate::log::PURGED;

    #[test]
    fn the_log_begins_after_the_state_and_its_members_are_the_voters() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), true, Arc::new(|_, _| {})).unwrap();
        let voters = BTreeSet::from([7, 3, 5]);
        let position = begin_with_state(&log, &voters).unwrap();
        check_reach(&log, &position).unwrap();
        let (applied, stored) = codec::from_position(&position).unwrap();
        assert_eq!(applied, Some(codec::log_id(TERM, INDEX)));
        assert_eq!(stored.membership().voter_ids().collect::<BTreeSet<_>>(), voters);
        assert_eq!((log.bounds().first, log.bounds().last), (None, None));
        assert_eq!(codec::decode_log_id(&log.mark(PURGED).unwrap()).unwrap(), codec::log_id(TERM, INDEX));
        assert_eq!(codec::decode_vote(&log.mark(VOTE).unwrap()).unwrap(), RaftVote::new(TERM, 3));
        assert!(begin_with_state(&log, &BTreeSet::new()).is_err());
    }
}
