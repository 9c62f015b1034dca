//! The only writer. It collects the changes of many transactions into one batch, keeps the index
//! in step as it goes, and publishes the new revision once the batch is in the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use keelson_api::Revision;
use keelson_api::mvccpb::KeyValue;

use crate::backend::{Backend, ReadMode, StorageError, Table, WriteBatch};
use crate::index::KeyMeta;
use crate::key::{KeyRange, history_key, revision_key};
use crate::read::{Pending, Query, Range, ReadError, View};
use crate::row;
use crate::store::{CompactError, Shared, Store, meta_key, put_u64, version_cost};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was set.
    Put,
    /// The key was removed; only `key` and `mod_revision` of its `kv` are set.
    Delete,
}

/// One change, as watchers see it.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after the change.
    pub kv: KeyValue,
    /// Where the version that was replaced had been written, if there was one.
    pub previous: Option<Revision>,
    /// Lease that the replaced version was attached to.
    pub previous_lease: i64,
}

/// Collects changes. There is one at a time for a store.
pub struct Writer<B: Backend> {
    shared: Arc<Shared<B>>,
    batch: B::Batch,
    pending: Pending,
    /// Revision of the last finished transaction, published or not.
    revision: i64,
    compacted: i64,
    bytes_written: u64,
    /// Changes of the transaction at hand.
    events: Vec<Event>,
}

impl<B: Backend> Writer<B> {
    /// The writer of `store`; make only one.
    #[must_use]
    pub fn new(store: &Store<B>) -> Self {
        let shared = store.shared.clone();
        Self {
            batch: shared.backend.batch(),
            pending: Pending::new(),
            revision: shared.published.load(Ordering::Acquire),
            compacted: shared.compacted.load(Ordering::Acquire),
            bytes_written: shared.bytes_written.load(Ordering::Relaxed),
            events: Vec::new(),
            shared,
        }
    }

    /// Revision of the last finished transaction.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Compaction including one that is not published yet.
    #[must_use]
    pub const fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The batch, for rows that must travel with the changes.
    pub fn batch(&mut self) -> &mut B::Batch {
        &mut self.batch
    }

    /// Newest metadata of a live key, changes of this transaction included.
    #[must_use]
    pub fn meta(&self, key: &[u8]) -> Option<KeyMeta> {
        self.shared.index.read().get(key).copied()
    }

    /// Calls `visit` for each live key of `range`, changes of this transaction included.
    pub fn for_each(&self, range: &KeyRange, visit: impl FnMut(&[u8], &KeyMeta)) {
        self.shared.index.read().for_each(range, visit);
    }

    fn view(&self) -> View<'_, B> {
        View { shared: &self.shared, pending: Some(&self.pending), mode: ReadMode::Blocking }
    }

    /// Reads as the transaction at hand sees the store: its own changes are visible when no
    /// revision is named, and never count as a revision that could be named.
    pub fn range(&self, query: &Query) -> Result<Range, ReadError> {
        if query.revision > 0 && query.revision < self.compacted {
            return Err(ReadError::Compacted);
        }
        if query.revision > self.revision {
            return Err(ReadError::Future);
        }
        self.view().range(query, self.revision + i64::from(!self.events.is_empty()))
    }

    /// The newest version of a live key with its value.
    pub fn current(&self, key: &Bytes) -> Result<Option<KeyValue>, ReadError> {
        self.meta(key).map_or(Ok(None), |meta| self.view().version(key, meta.revision()))
    }

    fn next(&self) -> Revision {
        let sub = u32::try_from(self.events.len()).expect("a transaction has a bounded number of changes");
        Revision::new(self.revision + 1, sub)
    }

    /// Sets a key in the transaction at hand; answers what it replaced.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> Option<KeyMeta> {
        let at @ Revision { main, sub } = self.next();
        let old = self.meta(&key);
        let meta = KeyMeta {
            main,
            sub,
            size: u32::try_from(value.len()).expect("request size is limited far below 4 GiB"),
            create: old.map_or(main, |m| m.create),
            version: old.map_or(1, |m| m.version + 1),
            lease,
        };
        let row = row::encode_put(&meta, &value);
        let raw = history_key(&key, at);
        self.batch.put(Table::History, &raw, &row);
        self.batch.put(Table::Revisions, &revision_key(main, sub), &row::encode_change(true, &key, old.as_ref()));
        self.batch.put(Table::Live, &key, &row::encode_live(&meta));
        self.pending.insert(raw, row.into());
        self.shared.index.write().put(&key, meta);
        self.bytes_written += version_cost(key.len(), value.len() as u64);
        self.events.push(Event {
            kind: EventKind::Put,
            kv: row::key_value(key, &meta, value),
            previous: old.map(|m| m.revision()),
            previous_lease: old.map_or(0, |m| m.lease),
        });
        old
    }

    /// Removes a key in the transaction at hand; answers what was removed.
    pub fn delete(&mut self, key: Bytes) -> Option<KeyMeta> {
        let old = self.meta(&key)?;
        let at @ Revision { main, sub } = self.next();
        let raw = history_key(&key, at);
        self.batch.put(Table::History, &raw, &row::tombstone());
        self.batch.put(Table::Revisions, &revision_key(main, sub), &row::encode_change(false, &key, Some(&old)));
        self.batch.delete(Table::Live, &key);
        self.pending.insert(raw, Bytes::from_static(&[0]));
        self.shared.index.write().delete(&key, main);
        self.bytes_written += version_cost(key.len(), 0);
        self.events.push(Event {
            kind: EventKind::Delete,
            kv: KeyValue { key, mod_revision: main, ..KeyValue::default() },
            previous: Some(old.revision()),
            previous_lease: old.lease,
        });
        Some(old)
    }

    /// Whether the transaction at hand changed anything yet.
    #[must_use]
    pub const fn has_changes(&self) -> bool {
        !self.events.is_empty()
    }

    /// Ends the transaction at hand. If it changed anything the revision moves on by one.
    pub fn finish(&mut self) -> Vec<Event> {
        if !self.events.is_empty() {
            self.revision += 1;
        }
        std::mem::take(&mut self.events)
    }

    /// Makes everything below `revision` unreadable; rows are removed later.
    pub fn compact(&mut self, revision: i64) -> Result<(), CompactError> {
        if revision <= self.compacted {
            return Err(CompactError::Compacted);
        }
        if revision > self.revision {
            return Err(CompactError::Future);
        }
        self.compacted = revision;
        put_u64(&mut self.batch, meta_key::COMPACTED, revision.cast_unsigned());
        Ok(())
    }

    /// Bytes waiting in the batch.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.batch.size()
    }

    /// Writes the batch and makes its revisions readable.
    pub fn commit(&mut self) -> Result<(), StorageError> {
        debug_assert!(self.events.is_empty(), "commit inside a transaction");
        put_u64(&mut self.batch, meta_key::REVISION, self.revision.cast_unsigned());
        put_u64(&mut self.batch, meta_key::BYTES_WRITTEN, self.bytes_written);
        let batch = std::mem::replace(&mut self.batch, self.shared.backend.batch());
        self.shared.backend.write(batch)?;
        self.pending.clear();
        self.shared.bytes_written.store(self.bytes_written, Ordering::Relaxed);
        self.shared.compacted.store(self.compacted, Ordering::Release);
        self.shared.published.store(self.revision, Ordering::Release);
        self.shared.index.write().trim(self.revision);
        Ok(())
    }
}
