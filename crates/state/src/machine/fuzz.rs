//! Fuzz targets for the state machine: whatever commands are in the log, applying them is an answer
//! or a refusal, and what they lead to depends on nothing but their order.

mod plan;

use keelson_api::keelson::Command;
use keelson_fuzz::{Damage, damaged, target};
use keelson_mvcc::{KeyRange, MemoryBackend, Query, ReadMode};
use plan::Plan;

use super::*;
use crate::{check_delete, check_put, check_range, check_txn};

const TERM: u64 = 3;

/// Everything a client could tell two states apart by.
#[derive(Debug, PartialEq)]
struct Seen {
    revision: i64,
    compacted: i64,
    hash: u32,
    keys: Vec<keelson_api::mvccpb::KeyValue>,
    bytes: u64,
    leases: Vec<(i64, Lease)>,
    alarms: Vec<AlarmMember>,
    members: Vec<Member>,
    version: String,
    format: u32,
    users: Users,
}

fn see(shared: &Shared<MemoryBackend>) -> Seen {
    let store = &shared.store;
    let all = KeyRange::Span(Vec::new(), None);
    let query = Query { range: all, revision: 0, limit: 0, keys_only: false, count_only: false, count: true };
    let range = store.range(&query, ReadMode::Blocking).unwrap();
    assert_eq!(range.count, range.kvs.len());
    let mut leases: Vec<_> = shared.leases.read().ids().map(|(id, lease)| (id, lease.clone())).collect();
    leases.sort_by_key(|(id, _)| *id);
    Seen {
        revision: store.revision(),
        compacted: store.compacted(),
        hash: store.hash(0).unwrap().hash,
        keys: range.kvs,
        bytes: store.bytes_in_use(),
        leases,
        alarms: shared.alarms(),
        members: shared.members(),
        version: shared.cluster_version(),
        format: shared.format(),
        users: shared.users().clone(),
    }
}

fn open(backend: &MemoryBackend) -> Machine<MemoryBackend> {
    Machine::open(backend.clone()).unwrap().0
}

/// Applies `commands`, writing after each whose bit of `cuts` is set, and starting anew where
/// `restarts` has a bit too.
fn play(commands: &[Command], cuts: u64, restarts: u64) -> (Vec<String>, Seen) {
    let backend = MemoryBackend::default();
    let mut machine = open(&backend);
    let mut replies = Vec::new();
    for (n, command) in commands.iter().enumerate() {
        let before = machine.writer.revision();
        let reply = machine.apply(command, TERM, n as u64).expect("the store itself does not fail");
        let moved = machine.writer.revision() - before;
        assert!((0..=i64::from(reply.is_ok())).contains(&moved), "a refused command changes nothing, any other one revision");
        replies.push(format!("{reply:?}"));
        if cuts >> (n % 64) & 1 == 1 {
            machine.commit(&Position { index: n as u64, ..Position::default() }).unwrap();
            if restarts >> (n % 64) & 1 == 1 {
                machine = open(&backend);
            }
        }
    }
    let end = Position { index: u64::MAX / 2, term: TERM, membership: None };
    machine.commit(&end).unwrap();
    let seen = see(machine.shared());
    let (again, position) = Machine::open(backend).unwrap();
    assert_eq!((see(again.shared()), position), (see(machine.shared()), end), "a restart shows");
    (replies, seen)
}

#[test]
fn any_commands_apply_without_panic_and_equally_however_they_are_cut_into_writes_and_restarts() {
    target!(1_000).with_type::<(Vec<Plan>, u64, u64)>().for_each(|(plans, cuts, restarts)| {
        let commands: Vec<_> = plans.iter().map(Plan::command).collect();
        let one_write = play(&commands, 0, 0);
        assert_eq!(one_write, play(&commands, *cuts, *restarts));
    });
}

#[test]
fn a_request_that_passes_the_checks_can_be_read_back_from_the_log_and_applied() {
    target!(3_000).with_type::<(Plan, Plan)>().for_each(|(first, second)| {
        let mut machine = open(&MemoryBackend::default());
        for command in [first.command(), second.command()] {
            let sound = match &command.action {
                Some(Action::Put(r)) => check_put(r).is_ok(),
                Some(Action::DeleteRange(r)) => check_delete(r).is_ok(),
                Some(Action::Txn(r)) => check_txn(r, 128).is_ok(),
                _ => true,
            };
            if sound {
                assert_eq!(Command::decode(command.encode_to_vec().as_slice()).as_ref(), Ok(&command));
                let _ = machine.apply(&command, TERM, 1).expect("the store itself does not fail");
            }
        }
    });
}

#[test]
fn a_command_off_a_damaged_log_is_refused_or_applied() {
    target!(5_000).with_type::<(Plan, Plan, Vec<Damage>)>().for_each(|(first, second, damage)| {
        let mut machine = open(&MemoryBackend::default());
        let _ = machine.apply(&first.command(), TERM, 1).expect("the store itself does not fail");
        let encoded = damaged(&second.command().encode_to_vec(), damage);
        let Ok(command) = Command::decode(encoded.as_slice()) else { return };
        // The same checks see what comes off the wire.
        if let Some(Action::Txn(r)) = &command.action {
            let _ = (check_txn(r, 128), crate::is_read_only(r), crate::is_serializable(r), crate::quota_cost_txn(r));
            let _ = crate::read_only_txn(&machine.shared.store, r, ReadMode::Blocking);
        }
        let _ = machine.apply(&command, TERM, 1).expect("the store itself does not fail");
        let _ = see(machine.shared());
    });
}

#[test]
fn a_range_of_any_shape_is_answered_or_refused() {
    target!(5_000).with_type::<(Plan, plan::AnyRange)>().for_each(|(plan, range)| {
        let mut machine = open(&MemoryBackend::default());
        let _ = machine.apply(&plan.command(), TERM, 1).expect("the store itself does not fail");
        machine.commit(&Position::default()).unwrap();
        let request = range.request();
        if check_range(&request).is_ok() {
            let store = &machine.shared.store;
            let answer = crate::range_response(&request, |q| store.range(q, ReadMode::Blocking));
            if let Ok(answer) = answer {
                assert!(request.limit <= 0 || answer.kvs.len() <= usize::try_from(request.limit).unwrap());
                assert!(answer.kvs.len() <= usize::try_from(answer.count).unwrap());
            }
        }
        let _ = crate::check_range_stream(&request);
    });
}

#[test]
fn damaged_rows_of_leases_alarms_members_users_and_the_position_are_refused_or_taken_for_others() {
    target!(2_000).with_type::<(Vec<Plan>, u8, Vec<Damage>, Vec<Damage>)>().for_each(|(plans, row, key_damage, value_damage)| {
        let backend = MemoryBackend::default();
        let mut machine = open(&backend);
        for plan in plans {
            let _ = machine.apply(&plan.command(), TERM, 1).expect("the store itself does not fail");
        }
        machine.commit(&Position { index: 7, ..Position::default() }).unwrap();
        drop(machine);
        let mut rows = Vec::new();
        let mut cursor = backend.cursor(Table::Meta, None);
        cursor.seek(&[]).unwrap();
        while let Some((key, value)) = cursor.row() {
            rows.push((key.to_vec(), value.to_vec()));
            cursor.step().unwrap();
        }
        let (key, value) = &rows[usize::from(*row) % rows.len()];
        let mut batch = backend.batch();
        batch.put(Table::Meta, &damaged(key, key_damage), &damaged(value, value_damage));
        backend.write(batch).unwrap();
        match Machine::open(backend) {
            Ok((mut machine, position)) => {
                let _ = see(machine.shared());
                for plan in plans {
                    let _ = machine.apply(&plan.command(), TERM, 1).expect("the store itself does not fail");
                }
                machine.commit(&position).unwrap();
            }
            Err(e) => assert!(e.0.contains("damaged") || e.0.contains(format::ADVICE), "{e}"),
        }
    });
}
