//! Fills an empty store with the versions of another one, in the order of their revisions. What a compaction there has
//! made unreadable is left out on the way, so that nothing of it has to be removed later.

use std::collections::HashMap;

use bytes::Bytes;
use keelson_api::Revision;
use keelson_api::mvccpb::KeyValue;

use crate::backend::{Backend, GetError, ReadMode, StorageError, Table, WriteBatch};
use crate::index::KeyMeta;
use crate::key::{history_key, revision_key};
use crate::row;
use crate::store::{MAX_REVISION, meta_key, put_u64, version_cost};

/// Bytes that are written at once.
const BATCH: usize = 4 << 20;

/// Why a version cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It does not go together with those before it.
    #[error("{0}")]
    Damaged(String),
    /// The store that is being filled failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A store that is being filled. It can be opened once [`Import::finish`] has been called.
pub struct Import<'a, B: Backend> {
    backend: &'a B,
    batch: B::Batch,
    /// What the batch does to the table of live keys.
    live: HashMap<Bytes, Option<KeyMeta>>,
    /// Revisions below this one cannot be read; −1 for none.
    compacted: i64,
    last: Revision,
    /// Cost of the versions that are there.
    bytes: u64,
}

fn damaged<T>(at: Revision, what: &str) -> Result<T, ImportError> {
    Err(ImportError::Damaged(format!("revision {at} {what}")))
}

impl<'a, B: Backend> Import<'a, B> {
    /// Begins to fill `backend`, which must be empty, from a store that is compacted up to `compacted` (−1: never).
    pub fn new(backend: &'a B, compacted: i64) -> Self {
        let (batch, last) = (backend.batch(), Revision::default());
        Self { backend, batch, live: HashMap::new(), compacted, last, bytes: 0 }
    }

    /// Newest revision that has come.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.last.main
    }

    /// Takes the next version that was put.
    pub fn put(&mut self, at: Revision, kv: &KeyValue) -> Result<(), ImportError> {
        self.follow(at)?;
        let Ok(size) = u32::try_from(kv.value.len()) else { return damaged(at, "has a value that is too large") };
        let is_counted = (1..=at.main).contains(&kv.create_revision) && (1..=MAX_REVISION).contains(&kv.version);
        if kv.mod_revision != at.main || !is_counted {
            return damaged(at, "has a version whose numbers do not go together");
        }
        let previous = self.replace(at, &kv.key)?;
        let Revision { main, sub } = at;
        let meta = KeyMeta { main, sub, size, create: kv.create_revision, version: kv.version, lease: kv.lease };
        self.batch.put(Table::History, &history_key(&kv.key, at), &row::encode_put(&meta, &kv.value));
        self.batch.put(Table::Live, &kv.key, &row::encode_live(&meta));
        self.note(at, true, &kv.key, previous.as_ref());
        self.bytes += version_cost(kv.key.len(), u64::from(size));
        // A copy, so that a key does not keep its value in memory.
        self.live.insert(Bytes::copy_from_slice(&kv.key), Some(meta));
        self.write_if_large()
    }

    /// Takes the next delete.
    pub fn delete(&mut self, at: Revision, key: &Bytes) -> Result<(), ImportError> {
        self.follow(at)?;
        let previous = self.replace(at, key)?;
        self.batch.delete(Table::Live, key);
        self.live.insert(Bytes::copy_from_slice(key), None);
        // A delete below the compaction is as good as gone.
        if at.main >= self.compacted {
            self.batch.put(Table::History, &history_key(key, at), &row::tombstone());
            self.note(at, false, key, previous.as_ref());
            self.bytes += version_cost(key.len(), 0);
        }
        self.write_if_large()
    }

    /// Takes the next change of a history that is whole: the version must follow the one that is there.
    pub fn put_next(&mut self, at: Revision, kv: &KeyValue) -> Result<(), ImportError> {
        let follows = match self.newest(&kv.key)? {
            Some(old) => kv.create_revision == old.create && kv.version == old.version + 1,
            None => kv.create_revision == at.main && kv.version == 1,
        };
        if follows { self.put(at, kv) } else { damaged(at, "does not follow the version before it: a change is missing") }
    }

    /// The same for a delete: the key must be there.
    pub fn delete_next(&mut self, at: Revision, key: &Bytes) -> Result<(), ImportError> {
        match self.newest(key)? {
            Some(_) => self.delete(at, key),
            None => damaged(at, "deletes a key that is not there: a change is missing"),
        }
    }

    fn follow(&mut self, at: Revision) -> Result<(), ImportError> {
        if !(1..=MAX_REVISION).contains(&at.main) || at <= self.last {
            return damaged(at, "does not follow the ones before it");
        }
        self.last = at;
        Ok(())
    }

    /// The version that one at `at` replaces, if it stays.
    fn replace(&mut self, at: Revision, key: &Bytes) -> Result<Option<KeyMeta>, ImportError> {
        let Some(old) = self.newest(key)? else { return Ok(None) };
        if at.main > self.compacted {
            return Ok(Some(old));
        }
        self.batch.delete(Table::History, &history_key(key, old.revision()));
        self.bytes -= version_cost(key.len(), u64::from(old.size));
        Ok(None)
    }

    fn newest(&self, key: &Bytes) -> Result<Option<KeyMeta>, StorageError> {
        if let Some(known) = self.live.get(key) {
            return Ok(*known);
        }
        match self.backend.get(Table::Live, key, ReadMode::Blocking) {
            Ok(found) => found.map(|row| row::decode_live(&row)).transpose(),
            Err(GetError::Storage(e)) => Err(e),
            Err(GetError::WouldBlock) => Err(StorageError("a blocking read would block".into())),
        }
    }

    /// Watches may begin at the compacted revision; removal has been past all before it.
    fn note(&mut self, at: Revision, is_put: bool, key: &[u8], previous: Option<&KeyMeta>) {
        if at.main >= self.compacted {
            self.batch.put(Table::Revisions, &revision_key(at.main, at.sub), &row::encode_change(is_put, key, previous));
        }
    }

    fn write_if_large(&mut self) -> Result<(), ImportError> {
        if self.batch.size() >= BATCH {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StorageError> {
        let batch = std::mem::replace(&mut self.batch, self.backend.batch());
        self.live.clear();
        self.backend.write(batch)
    }

    /// Ends with the store at `marks`, which may lie ahead of what has come. `more` adds rows of others.
    pub fn finish(mut self, marks: crate::Marks, more: impl FnOnce(&mut B::Batch)) -> Result<(), ImportError> {
        if marks.revision < self.last.main.max(marks.compacted) || marks.compacted < self.compacted {
            return damaged(self.last, "is beyond the end of the store");
        }
        put_u64(&mut self.batch, meta_key::REVISION, marks.revision.cast_unsigned());
        put_u64(&mut self.batch, meta_key::BYTES_WRITTEN, self.bytes);
        if marks.compacted >= 0 {
            put_u64(&mut self.batch, meta_key::COMPACTED, marks.compacted.cast_unsigned());
            put_u64(&mut self.batch, meta_key::REMOVED_TO, self.compacted.cast_unsigned());
        }
        more(&mut self.batch);
        Ok(self.write()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;
    use crate::{Cursor, KeyRange, Marks, MemoryBackend, Query, Store, Writer};

    /// A store with keys that come, change and go, some twice in a revision.
    fn filled(compacted: Option<i64>) -> (Store<MemoryBackend>, Writer<MemoryBackend>) {
        let store = Store::open(MemoryBackend::default()).unwrap();
        let mut w = Writer::new(&store);
        for i in 0..60_i64 {
            let key = Bytes::from(format!("k{}\0", i % 7));
            if i % 5 == 3 {
                w.delete(key.clone());
            }
            if i % 5 != 3 || i % 2 == 0 {
                w.put(key, Bytes::from(vec![b'v'; usize::try_from(i).unwrap()]), i % 3);
            }
            w.finish();
        }
        if let Some(compacted) = compacted {
            w.compact(compacted).unwrap();
        }
        w.commit().unwrap();
        (store, w)
    }

    fn versions(store: &Store<MemoryBackend>, marks: Marks) -> BTreeMap<Revision, (bool, KeyValue)> {
        let mut found = BTreeMap::new();
        let mut all = store.retain().unwrap().versions(marks);
        all.next_piece::<StorageError>(usize::MAX, |at, deleted, kv| {
            found.insert(at, (deleted, KeyValue::decode(kv).unwrap()));
            Ok(())
        })
        .unwrap();
        found
    }

    fn copy(versions: &BTreeMap<Revision, (bool, KeyValue)>, compacted: i64, marks: Marks) -> MemoryBackend {
        let backend = MemoryBackend::default();
        let mut import = Import::new(&backend, compacted);
        for (at, (deleted, kv)) in versions {
            if *deleted { import.delete(*at, &kv.key).unwrap() } else { import.put(*at, kv).unwrap() }
        }
        import.finish(marks, |_| {}).unwrap();
        backend
    }

    fn rows(backend: &MemoryBackend, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut cursor = backend.cursor(table, None);
        cursor.seek(&[]).unwrap();
        let mut rows = Vec::new();
        while let Some((key, value)) = cursor.row() {
            rows.push((key.to_vec(), value.to_vec()));
            cursor.step().unwrap();
        }
        rows
    }

    #[test]
    fn a_copy_of_a_store_that_was_never_compacted_has_the_same_rows() {
        let (store, _w) = filled(None);
        let marks = Marks { revision: store.revision(), compacted: -1 };
        let backend = copy(&versions(&store, marks), -1, marks);
        for table in [Table::History, Table::Revisions, Table::Live] {
            assert_eq!(rows(&backend, table), rows(store.backend(), table), "{table:?}");
        }
        assert_eq!(Store::open(backend).unwrap().bytes_in_use(), store.bytes_in_use());
    }

    #[test]
    fn a_copy_of_a_compacted_store_reads_counts_and_hashes_as_it_does_then_and_after_more_compactions() {
        let (store, mut w) = filled(Some(30));
        let marks = Marks { revision: store.revision(), compacted: 30 };
        while !store.remove_step(1000).unwrap().done {}
        let copied = Store::open(copy(&versions(&store, marks), 30, marks)).unwrap();
        let mut copied_writer = Writer::new(&copied);
        let read = |s: &Store<MemoryBackend>, revision| {
            let range = KeyRange::Span(Vec::new(), None);
            let query = Query { range, revision, limit: 0, keys_only: false, count_only: false, count: true };
            s.range(&query, ReadMode::Blocking).map(|r| r.kvs).map_err(|e| e.to_string())
        };
        for compacted in [30, 41, marks.revision] {
            if compacted > 30 {
                for (store, w) in [(&store, &mut w), (&copied, &mut copied_writer)] {
                    w.compact(compacted).unwrap();
                    w.commit().unwrap();
                    while !store.remove_step(3).unwrap().done {}
                }
            }
            for revision in compacted - 1..=marks.revision {
                assert_eq!(read(&copied, revision), read(&store, revision), "{revision} of {compacted}");
            }
            assert_eq!(copied.hash(0).unwrap(), store.hash(0).unwrap());
            assert_eq!(copied.bytes_in_use(), store.bytes_in_use(), "{compacted}");
        }
    }

    #[test]
    fn versions_that_a_compaction_had_yet_to_remove_do_not_come_along() {
        let (store, _w) = filled(None);
        let marks = Marks { revision: store.revision(), compacted: -1 };
        let all = versions(&store, marks);
        let compacted = Marks { compacted: 30, ..marks };
        let kept = versions(&store, compacted);
        assert!(kept.len() < all.len());
        let copied = Store::open(copy(&all, 30, compacted)).unwrap();
        assert!(!copied.removal_pending());
        assert_eq!(versions(&copied, compacted), kept);
    }

    #[test]
    fn a_change_that_is_missing_from_a_whole_history_is_noticed_at_the_next_one_of_its_key() {
        let backend = MemoryBackend::default();
        let mut import = Import::new(&backend, -1);
        let version = |main, create_revision, version| KeyValue {
            key: "k".into(),
            create_revision,
            mod_revision: main,
            version,
            ..KeyValue::default()
        };
        let at = |main| Revision::new(main, 0);
        let missing = |taken: Result<(), ImportError>| assert!(matches!(taken, Err(ImportError::Damaged(_))), "{taken:?}");
        missing(import.delete_next(at(2), &"k".into()));
        missing(import.put_next(at(2), &version(2, 2, 2)));
        import.put_next(at(2), &version(2, 2, 1)).unwrap();
        missing(import.put_next(at(4), &version(4, 2, 3)));
        missing(import.put_next(at(4), &version(4, 4, 1)));
        import.put_next(at(3), &version(3, 2, 2)).unwrap();
        import.delete_next(at(4), &"k".into()).unwrap();
        import.put_next(at(5), &version(5, 5, 1)).unwrap();
    }

    #[test]
    fn what_cannot_be_the_next_version_is_refused() {
        let backend = MemoryBackend::default();
        let kv =
            |main| KeyValue { key: "k".into(), create_revision: main, mod_revision: main, version: 1, ..KeyValue::default() };
        let at = |main| Revision::new(main, 0);
        let mut import = Import::new(&backend, -1);
        import.put(at(5), &kv(5)).unwrap();
        for (revision, kv) in [
            (at(5), kv(5)),
            (at(4), kv(4)),
            (at(i64::MAX), kv(i64::MAX)),
            (at(-1), kv(-1)),
            (at(6), kv(7)),
            (at(6), KeyValue { version: 0, ..kv(6) }),
            (at(6), KeyValue { create_revision: 7, ..kv(6) }),
        ] {
            let mut import = Import { last: at(5), ..Import::new(&backend, -1) };
            assert!(matches!(import.put(revision, &kv), Err(ImportError::Damaged(_))), "{revision} {kv:?}");
        }
        let early = Marks { revision: 4, compacted: -1 };
        assert!(import.finish(early, |_| {}).is_err());
    }
}
