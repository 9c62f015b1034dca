//! Log rows, byte by byte (also in `docs/formats/log.md`): a kind, the term, and the payload.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keelson_api::format;
use keelson_api::keelson::{Command, MembershipRow, VoterSet};
use keelson_state::Position;
use openraft::{EmptyNode, EntryPayload};
use prost::Message;

use crate::pending::BatchId;
use crate::types::{Batch, RaftEntry, RaftLogId, RaftMembership, RaftStoredMembership, RaftVote};

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} cannot be decoded: the raft log is damaged"))
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}; {} on this data directory", format::ADVICE))
}

/// Row of an entry; its index is the key.
pub(crate) fn encode_entry(entry: &RaftEntry) -> Bytes {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(batch) => (NORMAL, batch.0.clone()),
        EntryPayload::Membership(m) => (MEMBERSHIP, membership_row(None, m).encode_to_vec().into()),
    };
    let mut row = BytesMut::with_capacity(payload.len() + 9);
    row.put_u8(kind);
    row.put_u64(**entry.log_id.committed_leader_id());
    row.put(payload);
    row.freeze()
}

pub(crate) fn decode_entry(index: u64, mut row: Bytes) -> io::Result<RaftEntry> {
    let kind = row.try_get_u8().map_err(|_| damaged("a log entry"))?;
    let term = row.try_get_u64().map_err(|_| damaged("a log entry"))?;
    let payload = match kind {
        BLANK if row.is_empty() => EntryPayload::Blank,
        NORMAL => EntryPayload::Normal(Batch(row)),
        MEMBERSHIP => {
            let decoded = MembershipRow::decode(row).map_err(|_| damaged("a membership entry"))?;
            EntryPayload::Membership(membership(&decoded)?)
        }
        _ => return Err(unknown("a log entry is of a kind that this build does not know: it is of a newer format, or damaged")),
    };
    Ok(RaftEntry { log_id: checked_log_id(term, index, "a log entry")?, payload })
}

pub(crate) fn log_id(term: u64, index: u64) -> RaftLogId {
    RaftLogId::new_term_index(term, index)
}

/// Terms and indexes are counted on: the last of them is never reached, and claiming it is damage.
fn checked_log_id(term: u64, index: u64, what: &str) -> io::Result<RaftLogId> {
    if term == u64::MAX || index == u64::MAX { Err(damaged(what)) } else { Ok(log_id(term, index)) }
}

pub(crate) fn term_of(id: &RaftLogId) -> u64 {
    **id.committed_leader_id()
}

pub(crate) fn encode_log_id(id: &RaftLogId) -> Vec<u8> {
    [term_of(id).to_be_bytes(), id.index.to_be_bytes()].concat()
}

pub(crate) fn decode_log_id(row: &[u8]) -> io::Result<RaftLogId> {
    let mut buf = row;
    match (buf.try_get_u64(), buf.try_get_u64()) {
        (Ok(term), Ok(index)) if buf.is_empty() => checked_log_id(term, index, "a log position"),
        _ => Err(damaged("a log position")),
    }
}

pub(crate) fn encode_vote(vote: &RaftVote) -> Vec<u8> {
    let mut row = [vote.leader_id.term.to_be_bytes(), vote.leader_id.voted_for.to_be_bytes()].concat();
    row.push(u8::from(vote.committed));
    row
}

pub(crate) fn decode_vote(row: &[u8]) -> io::Result<RaftVote> {
    let mut buf = row;
    let (Ok(term), Ok(node), committed) = (buf.try_get_u64(), buf.try_get_u64(), buf) else {
        return Err(damaged("the vote"));
    };
    match committed {
        [0] if term < u64::MAX => Ok(RaftVote::new(term, node)),
        [1] if term < u64::MAX => Ok(RaftVote::new_committed(term, node)),
        _ => Err(damaged("the vote")),
    }
}

/// Packs encoded commands into one entry.
pub(crate) fn pack<'a>(id: BatchId, commands: impl Iterator<Item = &'a Bytes> + Clone) -> Batch {
    let mut out = BytesMut::with_capacity(16 + commands.clone().map(|c| c.len() + 4).sum::<usize>());
    out.put_u64(id.run);
    out.put_u64(id.number);
    for command in commands {
        out.put_u32(u32::try_from(command.len()).expect("a command is far below 4 GiB"));
        out.put_slice(command);
    }
    Batch(out.freeze())
}

/// Whose batch an entry is, and its commands, sharing its memory.
pub(crate) fn unpack(batch: &Batch) -> io::Result<(BatchId, impl Iterator<Item = io::Result<Bytes>>)> {
    let mut rest = batch.0.clone();
    let (Ok(run), Ok(number)) = (rest.try_get_u64(), rest.try_get_u64()) else { return Err(damaged("a batch of commands")) };
    let commands = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest.try_get_u32().ok().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= rest.len());
        let Some(length) = length else {
            rest.clear();
            return Some(Err(damaged("a batch of commands")));
        };
        Some(Ok(rest.split_to(length)))
    });
    Ok((BatchId { run, number }, commands))
}

/// A command that can be applied. One of a newer build must not be skipped: this member's data would be another than
/// the others' from there on.
pub(crate) fn decode_command(encoded: Bytes) -> io::Result<Command> {
    let command = Command::decode(encoded).map_err(|_| damaged("a command"))?;
    format::check("a command in the raft log", command.format).map_err(io::Error::other)?;
    if command.action.is_none() {
        return Err(unknown("a command in the raft log is of a kind that this build does not know"));
    }
    Ok(command)
}

/// Bytes that an entry takes in memory, about.
pub(crate) fn weight(entry: &RaftEntry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(batch) => batch.0.len() + 64,
        _ => 64,
    }
}

pub(crate) fn index_of(entry: &RaftEntry) -> u64 {
    entry.log_id.index
}

pub(crate) fn membership_row(id: Option<&RaftLogId>, m: &RaftMembership) -> MembershipRow {
    MembershipRow {
        term: id.map_or(0, term_of),
        index: id.map_or(0, |id| id.index),
        configs: m.get_joint_config().iter().map(|set| VoterSet { voters: set.iter().copied().collect() }).collect(),
        nodes: m.nodes().map(|(id, _)| *id).collect(),
        present: id.is_some(),
    }
}

fn membership(row: &MembershipRow) -> io::Result<RaftMembership> {
    // Of no voters at all any number is a quorum.
    if row.configs.is_empty() {
        return Err(damaged("a membership"));
    }
    let configs = row.configs.iter().map(|c| c.voters.iter().copied().collect::<BTreeSet<u64>>()).collect();
    let nodes: BTreeMap<u64, EmptyNode> = row.nodes.iter().map(|id| (*id, EmptyNode {})).collect();
    RaftMembership::new(configs, nodes).map_err(|_| damaged("a membership"))
}

/// Membership and applied log id as the state store remembers them.
pub(crate) fn from_position(position: &Position) -> io::Result<(Option<RaftLogId>, RaftStoredMembership)> {
    let at = checked_log_id(position.term, position.index, "the applied position")?;
    let applied = (position.index > 0 || position.term > 0).then_some(at);
    let stored = match &position.membership {
        Some(row) if row.present => {
            let at = checked_log_id(row.term, row.index, "the position of the membership")?;
            RaftStoredMembership::new(Some(at), membership(row)?)
        }
        _ => RaftStoredMembership::default(),
    };
    Ok((applied, stored))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use keelson_api::keelson::LeaseRevoke;
    use keelson_api::keelson::command::Action;

    use super::*;

    #[test]
    fn entries_votes_and_positions_survive_a_round_trip_and_reject_damage() {
        let name = BatchId { run: 5, number: 6 };
        let batch = pack(name, [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")].iter());
        let (id, commands) = unpack(&batch).unwrap();
        assert_eq!(id, name);
        let commands: Vec<_> = commands.map(Result::unwrap).collect();
        assert_eq!(commands, [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")]);
        let members = RaftMembership::new(
            vec![BTreeSet::from([1, 2])],
            BTreeMap::from([(1, EmptyNode {}), (2, EmptyNode {}), (3, EmptyNode {})]),
        );
        for payload in [EntryPayload::Blank, EntryPayload::Normal(batch.clone()), EntryPayload::Membership(members.unwrap())] {
            let entry = RaftEntry { log_id: log_id(7, 9), payload };
            let row = encode_entry(&entry);
            assert_eq!(decode_entry(9, row.clone()).unwrap(), entry);
            assert!(decode_entry(9, row.slice(..4)).is_err());
        }
        assert!(unpack(&Batch(batch.0.slice(..5))).is_err());
        assert!(unpack(&Batch(batch.0.slice(..21))).unwrap().1.any(|c| c.is_err()));
        let vote = RaftVote::new_committed(3, u64::MAX);
        assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        assert!(decode_vote(&[1]).is_err());
        assert_eq!(decode_log_id(&encode_log_id(&log_id(1, 2))).unwrap(), log_id(1, 2));
    }
    #[test]
    fn a_command_of_a_kind_or_format_that_is_not_known_is_neither_skipped_nor_taken_for_damage() {
        let action = Some(Action::LeaseRevoke(LeaseRevoke { id: 1, expired_in_term: 0 }));
        let encode = |command: &Command| Bytes::from(command.encode_to_vec());
        let known = Command { action, ..Command::default() };
        assert_eq!(decode_command(encode(&known)).unwrap(), known);
        let newer = Command { format: format::newest() + 1, ..known };
        // Field 1000, as a build that has it would write it, beside the user.
        let kind = [encode(&Command { user: "u".into(), ..Command::default() }), Bytes::from_static(b"\xc2\x3e\x02ab")].concat();
        for unknown in [encode(&newer), kind.into(), Bytes::new()] {
            let refused = decode_command(unknown).unwrap_err().to_string();
            assert!(refused.contains(format::ADVICE) && !refused.contains("damaged"), "{refused}");
        }
        assert!(decode_command(Bytes::from_static(&[0xff])).unwrap_err().to_string().contains("damaged"));
    }
    #[test]
    fn a_last_term_or_index_a_vote_of_two_minds_and_a_membership_without_voters_are_damage() {
        assert!(decode_entry(u64::MAX, Bytes::from_static(&[0; 9])).is_err());
        assert!(decode_entry(1, Bytes::from_static(&[0; 10])).is_err(), "a blank entry with something in it");
        assert!(decode_log_id(&[0xff; 16]).is_err());
        assert!(decode_vote(&[0xff; 17]).is_err());
        assert!(decode_vote(&[[0; 16].as_slice(), &[2]].concat()).is_err());
        assert!(decode_vote(&[0; 18]).is_err());
        let nobody = MembershipRow { present: true, ..MembershipRow::default() };
        assert!(from_position(&Position { membership: Some(nobody), ..Position::default() }).is_err());
        assert!(from_position(&Position { index: u64::MAX, ..Position::default() }).is_err());
    }
}
