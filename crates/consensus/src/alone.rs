//! Makes a member the only one of its cluster, before consensus starts: for when the others are gone for good.
//!
//! Everything in its log counts from then on, also what no quorum is known to have: a part of that may have been
//! acknowledged, and nobody is left who could know better.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use keelson_api::keelson::command::Action;
use keelson_api::keelson::{Command, OnlyMember};
use keelson_state::Position;
use keelson_storage::LogStore;
use openraft::{EmptyNode, EntryPayload};
use prost::Message;

use crate::codec;
use crate::fit::finished;
use crate::log::{COMMITTED, PURGED, VOTE};
use crate::pending::BatchId;
use crate::types::{RaftEntry, RaftLogId, RaftMembership, RaftVote};

/// Writes to the log that `only` is all that is left of the cluster. `applied` is where the state stands. Does nothing
/// for a member that has never been part of a cluster.
pub fn leave_others(log: &LogStore, applied: &Position, only: &OnlyMember) -> io::Result<()> {
    let Some(last) = last_position(log, applied)? else { return Ok(()) };
    let vote = log.mark(VOTE).map(|row| codec::decode_vote(&row)).transpose()?;
    // A term of its own, so that no entry of it can be anywhere else.
    let term = vote.map_or(0, |v| v.leader_id.term).max(codec::term_of(&last)) + 1;
    let vote = RaftVote::new(term, only.id);
    finished(|done| log.set_mark(VOTE, codec::encode_vote(&vote), done))?;

    let command = Command { action: Some(Action::OnlyMember(only.clone())), ..Command::default() };
    let batch = codec::pack(BatchId { run: 0, number: 0 }, [Bytes::from(command.encode_to_vec())].iter());
    let nodes = BTreeMap::from([(only.id, EmptyNode {})]);
    let membership = RaftMembership::new(vec![BTreeSet::from([only.id])], nodes).map_err(io::Error::other)?;
    let entry = |index, payload| {
        let entry = RaftEntry { log_id: codec::log_id(term, index), payload };
        (index, codec::encode_entry(&entry))
    };
    let end = last.index + 2;
    let rows = vec![entry(last.index + 1, EntryPayload::Normal(batch)), entry(end, EntryPayload::Membership(membership))];
    finished(|done| log.append(rows, done))?;
    // So it is applied before anybody is served.
    finished(|done| log.set_mark(COMMITTED, codec::encode_log_id(&codec::log_id(term, end)), done))
}

fn last_position(log: &LogStore, applied: &Position) -> io::Result<Option<RaftLogId>> {
    if let Some(last) = log.bounds().last {
        let row = log.read(last..last + 1, usize::MAX).map_err(io::Error::other)?.pop();
        let (index, row) = row.ok_or_else(|| codec::damaged("the last log entry"))?;
        return Ok(Some(codec::decode_entry(index, row)?.log_id));
    }
    if let Some(row) = log.mark(PURGED) {
        return codec::decode_log_id(&row).map(Some);
    }
    Ok(codec::from_position(applied)?.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_in_the_log_stays_and_the_others_are_left_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), true, Arc::new(|_| {})).unwrap();
        let only = OnlyMember { id: 7, peer_urls: vec!["http://m7:2380".into()] };
        leave_others(&log, &Position::default(), &only).unwrap();
        assert_eq!(log.bounds().last, None, "a member without a cluster");

        let old = RaftEntry { log_id: codec::log_id(3, 0), payload: EntryPayload::Blank };
        finished(|done| log.append(vec![(0, codec::encode_entry(&old))], done)).unwrap();
        finished(|done| log.set_mark(VOTE, codec::encode_vote(&RaftVote::new_committed(5, 9)), done)).unwrap();
        leave_others(&log, &Position::default(), &only).unwrap();
        let rows = log.read(0..9, usize::MAX).unwrap();
        let entries: Vec<RaftEntry> = rows.into_iter().map(|(i, row)| codec::decode_entry(i, row).unwrap()).collect();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0], old);
        let EntryPayload::Normal(batch) = &entries[1].payload else { panic!("{:?}", entries[1]) };
        let command = codec::unpack(batch).unwrap().1.next().unwrap().unwrap();
        assert_eq!(Command::decode(command).unwrap().action, Some(Action::OnlyMember(only)));
        let EntryPayload::Membership(membership) = &entries[2].payload else { panic!("{:?}", entries[2]) };
        assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [7]);
        assert!(entries[1..].iter().all(|e| codec::term_of(&e.log_id) == 6));
        let vote = codec::decode_vote(&log.mark(VOTE).unwrap()).unwrap();
        assert_eq!((vote.leader_id.term, vote.leader_id.voted_for, vote.committed), (6, 7, false));
        assert_eq!(codec::decode_log_id(&log.mark(COMMITTED).unwrap()).unwrap(), codec::log_id(6, 2));
    }
}
