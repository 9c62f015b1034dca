//! Fuzz targets for what the raft log and the applied position are read from.

use bolero::TypeGenerator;
use keelson_api::keelson::AppliedRow;
use keelson_fuzz::{Damage, damaged as damage_to, target};

use super::*;

#[derive(Debug, TypeGenerator)]
enum AnyPayload {
    Blank,
    Commands(Vec<Vec<u8>>),
    Membership(Vec<Vec<u8>>, Vec<u8>),
}

/// A membership as a row has it, sound or not.
fn row_of(configs: &[Vec<u8>], learners: &[u8]) -> MembershipRow {
    let voters = |set: &Vec<u8>| VoterSet { voters: set.iter().copied().map(u64::from).collect() };
    let nodes = configs.iter().flatten().chain(learners).copied().map(u64::from).collect();
    MembershipRow { configs: configs.iter().map(voters).collect(), nodes, ..MembershipRow::default() }
}

impl AnyPayload {
    fn payload(&self) -> Option<EntryPayload<Batch, u64, EmptyNode>> {
        Some(match self {
            Self::Blank => EntryPayload::Blank,
            Self::Commands(commands) => {
                let commands: Vec<_> = commands.iter().map(|c| Bytes::copy_from_slice(c)).collect();
                EntryPayload::Normal(pack(BatchId { run: 1, number: 2 }, commands.iter()))
            }
            Self::Membership(configs, learners) => EntryPayload::Membership(membership(&row_of(configs, learners)).ok()?),
        })
    }
}

fn says_what(e: &io::Error) {
    assert!(e.kind() == io::ErrorKind::InvalidData && e.to_string().contains("damaged"), "{e}");
}

#[test]
fn entries_survive_a_round_trip_and_damage_is_an_error_or_another_entry() {
    target!(20_000).with_type::<(u32, u32, AnyPayload, Vec<Damage>)>().for_each(|(term, index, payload, damage)| {
        let (index, Some(payload)) = (u64::from(*index), payload.payload()) else { return };
        let entry = RaftEntry { log_id: log_id(u64::from(*term), index), payload };
        let row = encode_entry(&entry);
        assert_eq!(decode_entry(index, row.clone()).unwrap(), entry);
        match decode_entry(index, damage_to(&row, damage).into()) {
            Ok(got) => {
                assert_eq!(decode_entry(index, encode_entry(&got)).unwrap(), got);
                if let EntryPayload::Normal(batch) = &got.payload {
                    match unpack(batch) {
                        Ok((_, commands)) => commands.filter_map(Result::err).for_each(|e| says_what(&e)),
                        Err(e) => says_what(&e),
                    }
                }
            }
            Err(e) => says_what(&e),
        }
    });
}

#[test]
fn a_batch_is_its_commands_and_a_damaged_one_never_yields_more_bytes_than_it_has() {
    target!(20_000).with_type::<(u64, u64, Vec<Vec<u8>>, Vec<Damage>)>().for_each(|(run, number, commands, damage)| {
        let name = BatchId { run: *run, number: *number };
        let commands: Vec<_> = commands.iter().map(|c| Bytes::copy_from_slice(c)).collect();
        let batch = pack(name, commands.iter());
        let (id, unpacked) = unpack(&batch).unwrap();
        assert_eq!((id, unpacked.map(Result::unwrap).collect::<Vec<_>>()), (name, commands));
        let batch = Batch(damage_to(&batch.0, damage).into());
        let Ok((_, got)) = unpack(&batch) else {
            assert!(batch.0.len() < 16, "only a batch without its name is refused whole");
            return;
        };
        let got: Vec<_> = got.collect();
        let errors = got.iter().filter(|c| c.is_err()).count();
        assert!(errors <= 1 && got.iter().rev().skip(1).all(Result::is_ok), "nothing is read behind the damage");
        let bytes: usize = got.iter().flatten().map(|c| c.len() + 4).sum();
        assert!(bytes + 16 <= batch.0.len() && (errors == 1 || bytes + 16 == batch.0.len()));
    });
}

#[test]
fn votes_and_positions_survive_a_round_trip_and_damage_is_an_error_or_another_one() {
    target!(60_000).with_type::<(u64, u64, bool, Vec<Damage>)>().for_each(|(term, other, committed, damage)| {
        let (term, other) = (term / 2, other / 2);
        let vote = if *committed { RaftVote::new_committed(term, other) } else { RaftVote::new(term, other) };
        assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        let row = damage_to(&encode_vote(&vote), damage);
        match decode_vote(&row) {
            Ok(got) => assert_eq!(encode_vote(&got), row),
            Err(e) => says_what(&e),
        }
        let id = log_id(term, other);
        assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
        let row = damage_to(&encode_log_id(&id), damage);
        match decode_log_id(&row) {
            Ok(got) => assert_eq!(encode_log_id(&got), row),
            Err(e) => says_what(&e),
        }
    });
}

#[test]
fn an_applied_position_is_taken_over_as_it_is_or_refused() {
    target!(20_000).with_type::<(u64, u64, Option<(u64, u64, Vec<Vec<u8>>, Vec<u8>, bool)>, Vec<Damage>)>().for_each(
        |(term, index, row, damage)| {
            let membership = row.as_ref().map(|(term, index, configs, learners, present)| MembershipRow {
                term: *term,
                index: *index,
                present: *present,
                ..row_of(configs, learners)
            });
            let position = AppliedRow { term: *term, index: *index, membership };
            let Ok(damaged) = AppliedRow::decode(damage_to(&position.encode_to_vec(), damage).as_slice()) else { return };
            for position in [position, damaged] {
                match from_position(&position) {
                    Ok((applied, stored)) => {
                        assert_eq!(applied.map_or(0, |id| id.index), position.index);
                        if let Some(row) = position.membership.filter(|row| row.present) {
                            assert!(stored.voter_ids().count() > 0, "a quorum of nobody is always reached");
                            let again = membership_row(stored.log_id().as_ref(), stored.membership());
                            assert_eq!((again.term, again.index), (row.term, row.index));
                        }
                    }
                    Err(e) => says_what(&e),
                }
            }
        },
    );
}
