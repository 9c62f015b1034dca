//! From a state to a file, from the file to a data directory, and everything is there again.

use std::fs;
use std::path::{Path, PathBuf};

use keelson_api::authpb::User;
use keelson_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op::Request};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::{Command, LeaseGrant};
use keelson_mvcc::{Import, KeyRange, Marks, MemoryBackend, Query, ReadMode, Table};
use keelson_state::{AuthRows, Machine, Position, Surroundings};
use keelson_storage::{DataDir, DataDirError, StateBackend, StateOptions};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{RestoreOptions, Restored, SaveError, SnapshotError, prepare, restore, status};

type Made = Machine<MemoryBackend>;

fn apply(machine: &mut Made, action: Action) {
    machine.apply(&Command { action: Some(action), ..Command::default() }, 1, 1).unwrap().unwrap();
}

fn put(key: String, value: usize, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: vec![b'v'; value].into(), lease, ..PutRequest::default() }
}

/// A state with keys that come, change and go, some in one transaction, and with leases.
fn state(changes: usize, compacted: Option<i64>) -> Made {
    let (mut machine, _) = Machine::open(MemoryBackend::default()).unwrap();
    for id in [3, 7] {
        apply(&mut machine, Action::LeaseGrant(LeaseGrant { id, ttl: 60 * id }));
    }
    for i in 0..changes {
        let key = |n: usize| format!("k{}", n % 17);
        match i % 5 {
            0 => {
                let delete = DeleteRangeRequest { key: key(i).into(), ..DeleteRangeRequest::default() };
                apply(&mut machine, Action::DeleteRange(delete));
            }
            1 => {
                let op = |n| RequestOp { request: Some(Request::RequestPut(put(key(n), n, 0))) };
                let txn = TxnRequest { success: vec![op(i), op(i + 1), op(i + 2)], ..TxnRequest::default() };
                apply(&mut machine, Action::Txn(txn));
            }
            _ => apply(&mut machine, Action::Put(put(key(i), i * 20, if i % 2 == 0 { 7 } else { 0 }))),
        }
    }
    if let Some(revision) = compacted {
        apply(&mut machine, Action::Compact(CompactionRequest { revision, physical: false }));
    }
    machine.commit(&Position { term: 4, index: 44, membership: None }).unwrap();
    machine
}

/// The file as a client saves it: with the checksum after it.
fn save(machine: &Made, folder: &Path) -> PathBuf {
    let prepared = prepare(machine.shared(), "3.7.0", folder, |_| Ok(())).unwrap();
    let mut file = prepared.write(Vec::new()).unwrap();
    let sum = Sha256::digest(&file);
    file.extend_from_slice(&sum);
    let path = folder.join("snapshot.db");
    fs::write(&path, file).unwrap();
    path
}

fn options(snapshot: &Path, data_dir: &Path) -> RestoreOptions {
    RestoreOptions { snapshot: snapshot.to_owned(), data_dir: Some(data_dir.to_owned()), ..RestoreOptions::default() }
}

fn open(restored: &Restored) -> (Machine<StateBackend>, Position) {
    let backend = StateBackend::open(&restored.data_dir.join("state"), &StateOptions::default()).unwrap();
    Machine::open(backend).unwrap()
}

fn everything(revision: i64) -> Query {
    Query { range: KeyRange::Span(Vec::new(), None), revision, limit: 0, keys_only: false, count_only: false, count: true }
}

#[test]
fn a_restored_directory_has_all_that_could_be_read_and_belongs_to_a_new_cluster() {
    for compacted in [None, Some(100)] {
        let folder = tempfile::tempdir().unwrap();
        let machine = state(300, compacted);
        let store = &machine.shared().store;
        let path = save(&machine, folder.path());
        let told = status(&path).unwrap();
        let all = store.range(&everything(0), ReadMode::Blocking).unwrap().kvs;
        assert_eq!((told.revision, told.total_key, told.version.as_str()), (store.revision(), all.len(), "3.7.0"));
        assert_eq!(told.total_size + 32, fs::metadata(&path).unwrap().len());

        let restored = restore(&options(&path, &folder.path().join("data"))).unwrap();
        assert_eq!((restored.revision, restored.compacted), (store.revision(), store.compacted()));
        let (copy, position) = open(&restored);
        assert_eq!((position.term, position.index), (1, 1));
        let copied = &copy.shared().store;
        for revision in compacted.unwrap_or(2)..=store.revision() {
            let read = |kvs: keelson_mvcc::Range| kvs.kvs;
            let want = store.range(&everything(revision), ReadMode::Blocking).map(read).unwrap();
            assert!(copied.range(&everything(revision), ReadMode::Blocking).map(read).unwrap() == want, "{revision}");
        }
        assert_eq!(copied.hash(0).unwrap(), store.hash(0).unwrap());
        assert!(!copied.removal_pending());
        let lease = copy.shared().lease(7).unwrap();
        assert_eq!((lease.ttl, lease.keys), (420, machine.shared().lease(7).unwrap().keys));
        let member = copy.shared().members();
        assert_eq!((member.len(), member[0].id, member[0].name.as_str()), (1, 0x8e9e_05c5_2164_694d, "default"));
        drop(copy);
        let identity = DataDir::open(&restored.data_dir).unwrap().identity().unwrap().unwrap();
        assert_eq!((identity.member_id, identity.cluster_id), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
    }
}

#[test]
fn revisions_can_be_moved_on_and_those_before_count_as_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let machine = state(100, None);
    let path = save(&machine, folder.path());
    let plain = options(&path, &folder.path().join("data"));
    let alone = RestoreOptions { mark_compacted: true, ..plain.clone() };
    assert!(matches!(restore(&alone), Err(SnapshotError::Options(_))));
    let restored = restore(&RestoreOptions { bump_revision: 1000, mark_compacted: true, ..plain }).unwrap();
    let newest = machine.shared().store.revision() + 1000;
    assert_eq!((restored.revision, restored.compacted), (newest, newest));
    let (copy, _) = open(&restored);
    let store = &copy.shared().store;
    assert!(store.range(&everything(newest - 1), ReadMode::Blocking).is_err());
    let want = machine.shared().store.range(&everything(0), ReadMode::Blocking).unwrap().kvs;
    assert_eq!(store.range(&everything(0), ReadMode::Blocking).unwrap().kvs, want);
    while !store.remove_step(100).unwrap().done {}
    assert_eq!(store.range(&everything(0), ReadMode::Blocking).unwrap().kvs, want);

    // Saved again, there is no trace of it but the numbers.
    let again = prepare(copy.shared(), "3.7.0", folder.path(), |_| Ok(())).unwrap();
    assert_eq!(again.revision, newest);
}

#[test]
fn a_damaged_file_is_refused_before_anything_is_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&state(100, None), folder.path());
    let sound = fs::read(&path).unwrap();
    let data = folder.path().join("data");
    let missing = restore(&options(&folder.path().join("missing"), &data));
    assert!(matches!(missing, Err(SnapshotError::Unreadable { .. })));

    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let refused = restore(&options(&path, &data)).unwrap_err();
    assert!(matches!(refused, SnapshotError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("checksum"), "{refused}");

    fs::write(&path, &sound[..sound.len() - 32]).unwrap();
    assert!(matches!(restore(&options(&path, &data)), Err(SnapshotError::NoChecksum(_))));
    fs::write(&path, b"something else entirely").unwrap();
    let skipping = RestoreOptions { skip_hash_check: true, ..options(&path, &data) };
    assert!(matches!(restore(&skipping), Err(SnapshotError::Damaged { .. })));
    assert!(matches!(status(&path), Err(SnapshotError::Damaged { .. })));
    assert!(!data.exists());

    fs::write(&path, &sound[..sound.len() - 32]).unwrap();
    restore(&skipping).unwrap();
    assert!(matches!(restore(&skipping), Err(SnapshotError::DataDir(DataDirError::NotEmpty(_)))));
    fs::write(&path, &flipped).unwrap();
    let unread = restore(&options(&path, &data));
    assert!(matches!(unread, Err(SnapshotError::DataDir(DataDirError::NotEmpty(_)))), "the file is not even looked at");
}

#[test]
fn users_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let user = User { name: "root".into(), ..User::default() };
    let auth = AuthRows { is_on: true, users: vec![(user.name.to_vec(), user.encode_to_vec())], ..AuthRows::default() };
    let around = Surroundings { auth, ..Surroundings::default() };
    let backend = MemoryBackend::default();
    Import::new(&backend, -1).finish(Marks::default(), |batch| around.write(batch)).unwrap();
    let path = save(&Machine::open(backend).unwrap().0, folder.path());
    let data = folder.path().join("data");
    restore(&options(&path, &data)).unwrap();
    let row = StateBackend::peek(&data.join("state"), Table::Meta, b"auth-user/root").unwrap().unwrap();
    assert_eq!(User::decode(row).unwrap(), user);
}

#[test]
fn a_name_that_no_snapshot_can_hold_is_told_before_a_file_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    for (length, fits) in [(32_768, true), (32_769, false)] {
        let user = User { name: vec![b'u'; length].into(), ..User::default() };
        let auth = AuthRows { users: vec![(user.name.to_vec(), user.encode_to_vec())], ..AuthRows::default() };
        let around = Surroundings { auth, ..Surroundings::default() };
        let backend = MemoryBackend::default();
        Import::new(&backend, -1).finish(Marks::default(), |batch| around.write(batch)).unwrap();
        let (machine, _) = Machine::open(backend).unwrap();
        match prepare(machine.shared(), "3.7.0", folder.path(), |_| Ok(())) {
            Ok(prepared) => assert!(fits && prepared.write(Vec::new()).is_ok()),
            Err(e) => assert!(!fits && matches!(e, SaveError::LongName), "{e}"),
        }
    }
}

#[test]
fn what_a_failed_restore_has_left_is_never_taken_for_a_member_and_can_be_restored_to_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&state(100, None), folder.path());
    let sound = fs::read(&path).unwrap();
    // Damage that shows only when the changes are read: revision 5 becomes 1.
    let at = sound.windows(9).rposition(|bytes| bytes == b"\0\0\0\0\0\0\0\x05_").unwrap();
    let mut damaged = sound.clone();
    damaged[at + 7] = 1;
    fs::write(&path, &damaged).unwrap();
    let data = folder.path().join("data");
    let skipping = RestoreOptions { skip_hash_check: true, ..options(&path, &data) };
    assert!(matches!(restore(&skipping), Err(SnapshotError::Damaged { .. })));
    let refused = DataDir::open(&data).unwrap().identity().unwrap_err();
    assert!(matches!(refused, DataDirError::HalfRestored(_)), "{refused}");

    fs::write(&path, &sound).unwrap();
    let restored = restore(&options(&path, &data)).unwrap();
    assert_eq!(open(&restored).0.shared().store.hash(0).unwrap().hash, state(100, None).shared().store.hash(0).unwrap().hash);
}
