//! A state lives on while it is backed up to a folder, and what is restored is what there was. Then everything that can be
//! wrong with what is in the folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use keelson_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::{Command, LeaseGrant};
use keelson_api::mvccpb::event::EventType;
use keelson_api::mvccpb::{Event, KeyValue};
use keelson_mvcc::{KeyRange, MemoryBackend, Query, ReadMode};
use keelson_state::{Machine, Position};
use keelson_storage::{StateBackend, StateOptions};
use sha2::{Digest, Sha256};

use super::*;
use crate::{RestoreOptions, Restored, SnapshotError, prepare, restore_with};

/// A state, and what a watch of all its keys has told.
struct World {
    machine: Machine<MemoryBackend>,
    events: Vec<Event>,
    applied: u64,
    dir: tempfile::TempDir,
}

fn all_at(revision: i64) -> Query {
    Query { range: KeyRange::Span(Vec::new(), None), revision, limit: 0, keys_only: false, count_only: false, count: true }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(2_000_000_000 + seconds).unwrap()
}

impl World {
    fn new() -> Self {
        let (machine, _) = Machine::open(MemoryBackend::default()).unwrap();
        let mut world = Self { machine, events: Vec::new(), applied: 0, dir: tempfile::tempdir().unwrap() };
        world.apply(Action::LeaseGrant(LeaseGrant { id: 7, ttl: 420 }));
        world
    }

    fn apply(&mut self, action: Action) {
        self.machine.apply(&Command { action: Some(action), ..Command::default() }, 1, 1).unwrap().unwrap();
        self.applied += 1;
        self.machine.commit(&Position { term: 1, index: self.applied, membership: None }).unwrap();
    }

    fn revision(&self) -> i64 {
        self.machine.shared().store.revision()
    }

    fn keys(&self, revision: i64) -> Vec<KeyValue> {
        self.machine.shared().store.range(&all_at(revision), ReadMode::Blocking).unwrap().kvs
    }

    fn put(&mut self, key: &str, lease: i64) {
        let (key, value) = (key.to_owned().into(), format!("{key} after {}", self.revision()).into());
        let put = PutRequest { key, value, lease, ..PutRequest::default() };
        self.apply(Action::Put(put.clone()));
        let kv = self.keys(0).into_iter().find(|kv| kv.key == put.key);
        self.events.push(Event { kv, ..Event::default() });
    }

    fn delete(&mut self, key: &str) {
        let key = bytes::Bytes::from(key.to_owned());
        self.apply(Action::DeleteRange(DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() }));
        let kv = KeyValue { key, mod_revision: self.revision(), ..KeyValue::default() };
        let mut event = Event { kv: Some(kv), ..Event::default() };
        event.set_type(EventType::Delete);
        self.events.push(event);
    }

    /// Some changes, each of another revision.
    fn live_on(&mut self, changes: usize) {
        for i in 0..changes {
            if i % 5 == 4 { self.delete(&format!("k{}", (i - 1) % 3)) } else { self.put(&format!("k{}", i % 3), 0) }
        }
    }

    fn folder(&self) -> PathBuf {
        let folder = self.dir.path().join("store");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn store(&self) -> Store {
        Store::open(self.folder().to_str().unwrap(), &Access::default()).unwrap()
    }

    /// A snapshot as it comes over the API.
    fn snapshot(&self) -> Vec<u8> {
        let prepared = prepare(self.machine.shared(), "3.7.0", self.dir.path(), |_| Ok(())).unwrap();
        let mut file = prepared.write(Vec::new()).unwrap();
        file.extend_from_slice(&Sha256::digest(&file));
        file
    }

    async fn making(&self) -> Making {
        let catalog = Catalog::read(&self.store()).await.unwrap();
        let mut making = Making::begin(&self.store(), catalog.newest, self.dir.path()).await.unwrap();
        for piece in self.snapshot().chunks(10_000) {
            making.add(piece).await.unwrap();
        }
        making
    }

    async fn back_up(&self, continuous: bool) -> Manifest {
        let made = self.making().await.finish().await.unwrap();
        assert_eq!(made.revision(), self.revision());
        let hash = self.machine.shared().store.hash(0).unwrap();
        let hash_kv = HashKv { hash: hash.hash, revision: hash.revision, compacted: hash.compacted };
        let about = About { hash_kv: Some(hash_kv), continuous, cluster_id: 10, ..About::default() };
        made.publish(about).await.unwrap()
    }

    /// Puts what has happened after `anchor` into the log of a backup, seen at `seconds`.
    async fn log(&self, backup: &Manifest, anchor: Anchor, seconds: i64) -> Anchor {
        self.log_until(backup, anchor, self.revision(), seconds).await
    }

    async fn log_until(&self, backup: &Manifest, anchor: Anchor, until: i64, seconds: i64) -> Anchor {
        let mut recorder = Recorder::after(anchor);
        let from = recorder.watch_from();
        let revision = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
        let told = self.events.iter().filter(|event| (from..=until).contains(&revision(event))).cloned().collect();
        recorder.add(told, at(seconds).as_millisecond()).unwrap();
        assert!(recorder.is_anchored());
        let (name, bytes) = recorder.segment(vec![Lease { id: 9, ttl: 900 }]).unwrap();
        self.store().append(&backup.id, &name, bytes.into()).await.unwrap();
        let segment = Segment::decode(&name, &self.store().read(&name.path(&backup.id), 1 << 20).await.unwrap().unwrap());
        Anchor::of(&segment.unwrap().transactions).unwrap()
    }

    async fn target(&self, id: Option<&str>, until: Until) -> Result<Target, BackupError> {
        Catalog::read(&self.store()).await.unwrap().target(&self.store(), id, until).await
    }

    async fn restore(&self, until: Until, bump: u64) -> Result<(Restored, Machine<StateBackend>), BackupError> {
        let target = self.target(None, until).await?;
        let fetched = fetch(&self.store(), &target, self.dir.path()).await?;
        let data_dir = tempfile::tempdir_in(self.dir.path()).unwrap().keep().join("data");
        let options = RestoreOptions {
            snapshot: fetched.snapshot.clone(),
            data_dir: Some(data_dir.clone()),
            bump_revision: bump,
            mark_compacted: bump > 0,
            ..RestoreOptions::default()
        };
        let restored = restore_with(&options, &fetched.replay)?;
        let backend = StateBackend::open(&data_dir.join("state"), &StateOptions::default()).unwrap();
        Ok((restored, Machine::open(backend).unwrap().0))
    }
}

fn keys_of(machine: &Machine<StateBackend>) -> Vec<KeyValue> {
    machine.shared().store.range(&all_at(0), ReadMode::Blocking).unwrap().kvs
}

fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { files(&path, name) } else { vec![path] })
        .filter(|path| path.to_str().unwrap().ends_with(name))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_backup_is_restored_and_held_against_what_the_member_told_of_its_keys() {
    for compacted in [None, Some(20)] {
        let mut world = World::new();
        world.live_on(40);
        if let Some(revision) = compacted {
            world.apply(Action::Compact(CompactionRequest { revision, physical: false }));
        }
        let manifest = world.back_up(false).await;
        assert_eq!((manifest.revision, manifest.compacted), (world.revision(), compacted.unwrap_or(-1)));
        assert_eq!(manifest.last_changes.len(), 16);
        world.live_on(7);
        let second = world.back_up(false).await;
        assert!(second.id > manifest.id);

        let (restored, copy) = world.restore(Until::Latest, 1000).await.unwrap();
        assert_eq!((restored.revision, restored.compared), (world.revision() + 1000, 1));
        assert_eq!(restored.compacted, restored.revision, "who watched before must list anew");
        assert_eq!(keys_of(&copy), world.keys(0));
        let older = world.restore(Until::Revision(manifest.revision), 0).await.unwrap().1;
        assert_eq!(keys_of(&older), world.keys(manifest.revision));
        let between = world.target(None, Until::Revision(manifest.revision + 1)).await.unwrap_err();
        assert!(between.to_string().contains("backup list"), "{between}");

        let file = &files(&world.folder(), "manifest.json")[1];
        let wrong = HashKv { hash: second.hash_kv.unwrap().hash ^ 1, ..second.hash_kv.unwrap() };
        fs::write(file, serde_json::to_vec(&Manifest { hash_kv: Some(wrong), ..second }).unwrap()).unwrap();
        let refused = world.restore(Until::Latest, 0).await.err().unwrap();
        assert!(matches!(refused, BackupError::Snapshot(SnapshotError::OtherKeys { .. })), "{refused}");
    }
}

#[tokio::test]
async fn any_moment_of_a_log_is_restored_as_it_was() {
    let mut world = World::new();
    world.live_on(11);
    let manifest = world.back_up(true).await;
    let mut anchor = manifest.anchor();
    let begin = manifest.revision;
    for minute in 1..=3 {
        world.live_on(9);
        anchor = world.log(&manifest, anchor, minute * 60).await;
    }
    let end = world.revision();
    assert_eq!(end, begin + 27);
    for revision in begin..=end {
        let (restored, copy) = world.restore(Until::Revision(revision), 0).await.unwrap();
        assert_eq!((restored.revision, restored.compared), (revision, 1));
        assert_eq!(keys_of(&copy), world.keys(revision), "{revision}");
        assert_eq!(copy.shared().store.hash(revision).unwrap().hash, world.machine.shared().store.hash(revision).unwrap().hash);
    }
    for (seconds, expected) in [(59, begin), (60, begin + 9), (130, begin + 18), (180, end)] {
        assert_eq!(world.target(None, Until::Time(at(seconds))).await.unwrap().revision, expected, "{seconds}");
    }
    assert!(world.target(None, Until::Time(at(181))).await.is_err(), "nobody knows what happened then");
    assert!(world.target(None, Until::Revision(end + 1)).await.is_err());
    assert!(world.target(None, Until::Revision(begin - 1)).await.is_err());
    let mark = Mark { revision: end, time: at(500), writer: "w".into() };
    mark.write(&world.store(), &manifest.id).await.unwrap();
    assert_eq!(world.target(None, Until::Time(at(181))).await.unwrap().revision, end, "nothing did");
    assert_eq!(world.target(Some(&manifest.id), Until::Latest).await.unwrap().revision, end);
}

#[tokio::test]
async fn a_part_of_a_log_that_is_missing_or_other_is_noticed() {
    let mut world = World::new();
    world.live_on(5);
    let manifest = world.back_up(true).await;
    let mut anchor = manifest.anchor();
    for minute in 1..=3 {
        world.live_on(5);
        anchor = world.log(&manifest, anchor, minute * 60).await;
    }
    let segments = files(&world.folder(), ".changes");
    assert_eq!(segments.len(), 3);
    let sound = fs::read(&segments[1]).unwrap();

    let mut other = sound.clone();
    other[sound.len() / 2] ^= 1;
    fs::write(&segments[1], other).unwrap();
    let refused = world.restore(Until::Latest, 0).await.err().unwrap();
    assert!(matches!(refused, BackupError::Damaged { .. }), "{refused}");

    fs::remove_file(&segments[1]).unwrap();
    let catalog = Catalog::read(&world.store()).await.unwrap();
    let (backup, manifest) = catalog.usable(&manifest.id).unwrap();
    assert_eq!(backup.reach(manifest).revision, manifest.revision + 5, "as far as there is no gap");
    assert_eq!(backup.gap(), Some(manifest.revision + 11));
    assert_eq!(world.target(None, Until::Latest).await.unwrap().revision, manifest.revision + 5);
    assert!(world.target(None, Until::Revision(manifest.revision + 12)).await.is_err());
}

#[tokio::test]
async fn two_writers_do_no_harm_to_a_log() {
    let mut world = World::new();
    world.live_on(5);
    let manifest = world.back_up(true).await;
    world.live_on(30);
    let base = manifest.revision;
    let first = world.log_until(&manifest, manifest.anchor(), base + 10, 60).await;
    let second = world.log_until(&manifest, manifest.anchor(), base + 14, 61).await;
    world.log_until(&manifest, first, base + 12, 62).await;
    world.log_until(&manifest, second, base + 30, 63).await;
    let (restored, copy) = world.restore(Until::Latest, 0).await.unwrap();
    assert_eq!(restored.revision, base + 30);
    assert_eq!(keys_of(&copy), world.keys(0));
}

#[tokio::test]
async fn leases_of_keys_in_the_log_come_along_and_unknown_ones_end_soon() {
    let mut world = World::new();
    world.put("a", 7);
    let manifest = world.back_up(true).await;
    for id in [8, 9] {
        world.apply(Action::LeaseGrant(LeaseGrant { id, ttl: 900 }));
        world.put(&format!("of {id}"), id);
    }
    // The log knows lease 9 only.
    world.log(&manifest, manifest.anchor(), 60).await;
    let (_, copy) = world.restore(Until::Latest, 0).await.unwrap();
    for (id, ttl) in [(7, 420), (8, 60), (9, 900)] {
        let lease = copy.shared().lease(id).unwrap();
        assert_eq!((lease.ttl, lease.keys.len()), (ttl, 1), "{id}");
    }
    let (_, before) = world.restore(Until::Revision(manifest.revision), 0).await.unwrap();
    assert!(before.shared().lease(9).is_none(), "it is of no key there");
}

#[tokio::test]
async fn what_was_not_finished_is_no_backup_and_goes_once_it_is_old() {
    let mut world = World::new();
    world.live_on(5);
    // Whoever makes it dies in the middle, and after the upload.
    drop(world.making().await);
    drop(world.making().await.finish().await.unwrap());
    let catalog = Catalog::read(&world.store()).await.unwrap();
    let unfinished: Vec<&Backup> = catalog.backups.iter().filter(|b| matches!(b.state, State::Unfinished)).collect();
    assert_eq!(unfinished.len(), 1, "half an upload is never listed");
    let id = unfinished[0].id.clone();
    assert!(world.target(None, Until::Latest).await.is_err());
    assert!(world.target(Some(&id), Until::Latest).await.unwrap_err().to_string().contains("not finished"));

    let keep = Keep { count: 1, age: Duration::ZERO };
    assert!(catalog.expired(&keep).is_empty(), "it may still be made");
    let snapshot = &files(&world.folder(), "snapshot.db")[0];
    let day = Duration::from_secs(25 * 3600);
    let early = fs::metadata(snapshot).unwrap().modified().unwrap() - day;
    fs::File::options().write(true).open(snapshot).unwrap().set_modified(early).unwrap();
    let manifest = world.back_up(false).await;
    assert!(manifest.id.starts_with("00000002-"), "{}: an unfinished one has its number", manifest.id);
    let catalog = Catalog::read(&world.store()).await.unwrap();
    let expired = catalog.expired(&keep);
    assert_eq!(expired.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    expired[0].delete(&world.store()).await.unwrap();
    assert_eq!(Catalog::read(&world.store()).await.unwrap().backups.len(), 1);
}

#[tokio::test]
async fn a_store_that_gives_back_other_bytes_is_not_believed() {
    let mut world = World::new();
    world.live_on(5);
    let manifest = world.back_up(false).await;
    let path = &files(&world.folder(), "snapshot.db")[0];
    let sound = fs::read(path).unwrap();
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    fs::write(path, &flipped).unwrap();
    let refused = world.restore(Until::Latest, 0).await.err().unwrap();
    assert!(matches!(refused, BackupError::Damaged { .. }), "{refused}");
    for short in [sound.len() - 1, 0] {
        fs::write(path, &sound[..short]).unwrap();
        let refused = world.target(Some(&manifest.id), Until::Latest).await.unwrap_err();
        assert!(matches!(refused, BackupError::Damaged { .. }), "{refused}");
    }
    fs::remove_file(path).unwrap();
    let refused = world.target(Some(&manifest.id), Until::Latest).await.unwrap_err();
    assert!(refused.to_string().contains("gone"), "{refused}");
    let file = &files(&world.folder(), "manifest.json")[0];
    let newer = Manifest { format: 2, ..manifest.clone() };
    for (unreadable, why) in [(serde_json::to_vec(&newer).unwrap(), "newer keelsonctl"), (b"{".to_vec(), "understood")] {
        fs::write(file, unreadable).unwrap();
        let refused = world.target(Some(&manifest.id), Until::Latest).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
        let catalog = Catalog::read(&world.store()).await.unwrap();
        assert!(catalog.expired(&Keep { count: 1, age: Duration::ZERO }).is_empty(), "it may be worth something");
    }
}

#[tokio::test]
async fn what_is_no_whole_snapshot_does_not_become_a_backup() {
    let mut world = World::new();
    world.live_on(5);
    let mut making = Making::begin(&world.store(), 0, world.dir.path()).await.unwrap();
    let snapshot = world.snapshot();
    making.add(&snapshot[..snapshot.len() - 40]).await.unwrap();
    assert!(matches!(making.finish().await, Err(BackupError::Snapshot(_))));
    assert!(Catalog::read(&world.store()).await.unwrap().backups.is_empty());
}

#[tokio::test]
async fn retention_keeps_so_many_and_those_that_reach_so_far_whatever_the_clock_says() {
    let mut world = World::new();
    world.live_on(5);
    let store = world.store();
    let mut ids = Vec::new();
    for (number, seconds) in [(1, 0), (2, 100), (3, 50), (4, 300)] {
        let manifest = world.back_up(number == 2).await;
        let manifest = Manifest { time: at(seconds), ..manifest };
        fs::write(world.folder().join(&manifest.id).join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        if number == 2 {
            Mark { revision: manifest.revision, time: at(290), writer: "w".into() }.write(&store, &manifest.id).await.unwrap();
        }
        ids.push(manifest.id);
    }
    let catalog = Catalog::read(&store).await.unwrap();
    let gone = |count, seconds| {
        let expired = catalog.expired(&Keep { count, age: Duration::from_secs(seconds) });
        expired.iter().map(|b| ids.iter().position(|id| *id == b.id).unwrap() + 1).collect::<Vec<_>>()
    };
    assert_eq!(gone(1, 0), [1, 2, 3]);
    assert_eq!(gone(0, 0), [1, 2, 3], "never the last one");
    assert_eq!(gone(3, 0), [1]);
    assert_eq!(gone(1, 20), [1, 3], "the second one reaches on");
    assert_eq!(gone(1, 1000), [0; 0]);
    assert_eq!(gone(u64::MAX, 0), [0; 0]);
}
