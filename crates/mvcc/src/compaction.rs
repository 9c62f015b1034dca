//! Removal of what a compaction made unreadable: in bounded steps, resumed after a restart, and
//! invisible to readers, who are kept away from it by the compacted revision.

use std::sync::atomic::Ordering;

use keelson_api::Revision;

use crate::backend::{Backend, Cursor, StorageError, Table, WriteBatch};
use crate::key::{history_key, revision_key, split_revision_key};
use crate::row;
use crate::store::{Store, meta_key, put_u64, version_cost};

/// How far one step got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Versions removed in this step.
    pub removed: usize,
    /// Nothing is left to do for the current compacted revision.
    pub done: bool,
    /// What is left is being read: try again when that has ended.
    pub held: bool,
}

impl<B: Backend> Store<B> {
    /// Whether a compaction has rows left to remove.
    #[must_use]
    pub fn removal_pending(&self) -> bool {
        self.shared.removed_to.load(Ordering::Acquire) < self.compacted()
    }

    /// Removes the superseded versions named by up to `limit` rows of the revisions table.
    /// Called by one thread at a time.
    pub fn remove_step(&self, limit: usize) -> Result<Progress, StorageError> {
        let shared = &*self.shared;
        let compacted = shared.compacted.load(Ordering::SeqCst);
        let target = shared.pins.oldest().map_or(compacted, |pinned| pinned.min(compacted));
        let from = shared.removed_to.load(Ordering::Acquire);
        if from >= target {
            let done = from >= compacted;
            return Ok(Progress { removed: 0, done, held: !done });
        }
        let mut batch = shared.backend.batch();
        let mut removed = 0;
        let mut freed = 0;
        let end = revision_key(target + 1, 0);
        let mut cursor = shared.backend.cursor(Table::Revisions, Some(&end));
        // The tombstones at `from` itself were kept by the compaction to `from`.
        cursor.seek(&revision_key(from.max(0), 0))?;
        let mut looked_at = 0;
        let mut reached = target;
        let mut newest = Vec::new();
        let mut newest_main = from;
        while let Some((raw, value)) = cursor.row() {
            let (main, sub) = split_revision_key(raw)
                .ok_or_else(|| StorageError("a key of table revisions cannot be decoded: the state store is damaged".into()))?;
            // Stop only between revisions.
            if looked_at >= limit && sub == 0 {
                reached = main - 1;
                // The next step begins here, and must not find again what this one has done with.
                newest.iter().for_each(|key: &Vec<u8>| batch.delete(Table::Revisions, key));
                break;
            }
            looked_at += usize::from(main > from);
            if std::mem::replace(&mut newest_main, main) != main {
                newest.clear();
            }
            newest.push(raw.to_vec());
            let change = row::decode_change(value)?;
            if main > from
                && let Some(previous) = change.previous
            {
                batch.delete(Table::History, &history_key(&change.key, previous));
                freed += version_cost(change.key.len(), u64::from(change.previous_size));
                removed += 1;
            }
            if !change.is_put && main < target {
                batch.delete(Table::History, &history_key(&change.key, Revision::new(main, sub)));
                freed += version_cost(change.key.len(), 0);
                removed += 1;
            }
            cursor.step()?;
        }
        let done = reached == compacted;
        if done {
            // Rows at the compacted revision itself serve watches that start there. One range for the
            // whole compaction: a cursor has to get past every one that there is.
            batch.delete_range(Table::Revisions, &[], &revision_key(compacted, 0));
        }
        let freed = shared.bytes_removed.load(Ordering::Relaxed) + freed;
        put_u64(&mut batch, meta_key::REMOVED_TO, reached.cast_unsigned());
        put_u64(&mut batch, meta_key::BYTES_REMOVED, freed);
        shared.backend.write(batch)?;
        shared.bytes_removed.store(freed, Ordering::Relaxed);
        shared.removed_to.store(reached, Ordering::Release);
        Ok(Progress { removed, done, held: false })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{KeyRange, MemoryBackend, Query, ReadError, ReadMode, Writer};

    fn all(revision: i64) -> Query {
        Query { range: KeyRange::Span(Vec::new(), None), revision, limit: 0, keys_only: false, count_only: false, count: true }
    }

    fn keys(store: &Store<MemoryBackend>, revision: i64) -> Vec<(Bytes, i64)> {
        let got = store.range(&all(revision), ReadMode::Blocking).unwrap();
        assert_eq!(got.count, got.kvs.len());
        got.kvs.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect()
    }

    #[test]
    fn a_key_deleted_and_set_again_in_one_revision_keeps_both_changes_through_compaction() {
        let store = Store::open(MemoryBackend::default()).unwrap();
        let mut w = Writer::new(&store);
        let key = Bytes::from_static(b"k");
        w.put(key.clone(), Bytes::from_static(b"old"), 0);
        w.finish();
        w.delete(key.clone());
        w.put(key.clone(), Bytes::from_static(b"new"), 0);
        w.finish();
        w.put(Bytes::from_static(b"other"), Bytes::new(), 0);
        w.finish();
        w.commit().unwrap();
        assert_eq!(keys(&store, 3), [(key.clone(), 3)]);
        w.compact(4).unwrap();
        w.commit().unwrap();
        while !store.remove_step(1).unwrap().done {}
        let left = store.range(&all(0), ReadMode::Blocking).unwrap().kvs;
        assert_eq!((left[0].key.clone(), left[0].value.clone(), left[0].version), (key, Bytes::from_static(b"new"), 1));
    }

    #[test]
    fn what_stays_readable_is_the_same_before_and_after_removal_in_any_step_size() {
        for limit in [1, 2, 3, 1000] {
            let store = Store::open(MemoryBackend::default()).unwrap();
            let mut w = Writer::new(&store);
            let key = |i: i64| Bytes::from(format!("k{}", i % 5));
            for i in 0..61 {
                if i % 7 == 3 {
                    w.delete(key(i));
                } else {
                    w.put(key(i), Bytes::from(vec![b'v'; usize::try_from(i).unwrap()]), 0);
                }
                w.finish();
            }
            w.commit().unwrap();
            let head = store.revision();
            for compact in [10, 11, 30, head] {
                w.compact(compact).unwrap();
                w.commit().unwrap();
                let before: Vec<_> = (compact..=head).map(|r| keys(&store, r)).collect();
                let hash = store.hash(head).unwrap().hash;
                while !store.remove_step(limit).unwrap().done {}
                let after: Vec<_> = (compact..=head).map(|r| keys(&store, r)).collect();
                assert_eq!(before, after, "step size {limit}, compacted to {compact}");
                assert_eq!(store.hash(head).unwrap().hash, hash, "the hash does not see removal");
                assert!(matches!(store.range(&all(compact - 1), ReadMode::Blocking), Err(ReadError::Compacted)));
            }
            // What is left is exactly one version per live key, plus a tombstone at the revision itself.
            let live: u64 = store
                .range(&all(0), ReadMode::Blocking)
                .unwrap()
                .kvs
                .iter()
                .map(|kv| version_cost(kv.key.len(), kv.value.len() as u64))
                .sum();
            assert_eq!(store.bytes_in_use(), live, "step size {limit}");
        }
    }
}
