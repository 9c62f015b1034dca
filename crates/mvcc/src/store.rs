//! The store itself: opening it, what is shared between the writer and the readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::backend::{Backend, Cursor, GetError, ReadMode, StorageError, Table, WriteBatch};
use crate::index::Index;
use crate::pin::Pins;
use crate::row;
use crate::tree::CountedTree;

/// Bytes that a version costs beyond its key and value, for the quota.
const VERSION_OVERHEAD: u64 = 256;

/// No store gets here. What claims to have is damaged, and would overflow when it is counted on.
pub(crate) const MAX_REVISION: i64 = i64::MAX / 2;
const MAX_BYTES: u64 = u64::MAX / 2;

/// What one version counts for the quota, in bytes.
pub(crate) const fn version_cost(key_len: usize, value_len: u64) -> u64 {
    key_len as u64 + value_len + VERSION_OVERHEAD
}

pub(crate) mod meta_key {
    pub(crate) const REVISION: &[u8] = b"mvcc/revision";
    pub(crate) const COMPACTED: &[u8] = b"mvcc/compacted";
    pub(crate) const REMOVED_TO: &[u8] = b"mvcc/removed-to";
    pub(crate) const BYTES_WRITTEN: &[u8] = b"mvcc/bytes-written";
    pub(crate) const BYTES_REMOVED: &[u8] = b"mvcc/bytes-removed";
}

/// Handle to the store for readers; cheap to clone.
pub struct Store<B> {
    pub(crate) shared: Arc<Shared<B>>,
}

impl<B> Clone for Store<B> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

pub(crate) struct Shared<B> {
    pub(crate) backend: B,
    pub(crate) index: RwLock<Index>,
    /// Newest revision whose rows are all readable.
    pub(crate) published: AtomicI64,
    /// Revisions below this one are gone for readers.
    pub(crate) compacted: AtomicI64,
    /// Up to here compaction has removed rows.
    pub(crate) removed_to: AtomicI64,
    /// Revisions that long reads are at.
    pub(crate) pins: Pins,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) bytes_removed: AtomicU64,
}

/// A compaction that cannot be done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompactError {
    /// It already was.
    #[error("the revision has been compacted already")]
    Compacted,
    /// The store has not got there.
    #[error("the revision is in the future")]
    Future,
}

fn read_u64<B: Backend>(backend: &B, key: &[u8]) -> Result<Option<u64>, StorageError> {
    let row = backend.get(Table::Meta, key, ReadMode::Blocking).map_err(|e| match e {
        GetError::Storage(e) => e,
        GetError::WouldBlock => StorageError("a blocking read would block".into()),
    })?;
    row.map(|r| {
        let bytes = r.as_ref().try_into().map_err(|_| {
            StorageError(format!("row {} is not 8 bytes long: the state store is damaged", String::from_utf8_lossy(key)))
        })?;
        Ok(u64::from_be_bytes(bytes))
    })
    .transpose()
}

pub(crate) fn put_u64(batch: &mut impl WriteBatch, key: &[u8], value: u64) {
    batch.put(Table::Meta, key, &value.to_be_bytes());
}

impl<B: Backend> Store<B> {
    /// Opens the store and rebuilds the index from the live table. A fresh store is at revision 1.
    pub fn open(backend: B) -> Result<Self, StorageError> {
        let read_i64 = |key| read_u64(&backend, key).map(|v| v.map(u64::cast_signed));
        let revision = read_i64(meta_key::REVISION)?.unwrap_or(1);
        let compacted = read_i64(meta_key::COMPACTED)?.unwrap_or(-1);
        let removed_to = read_i64(meta_key::REMOVED_TO)?.unwrap_or(-1);
        let bytes_written = read_u64(&backend, meta_key::BYTES_WRITTEN)?.unwrap_or(0);
        let bytes_removed = read_u64(&backend, meta_key::BYTES_REMOVED)?.unwrap_or(0);
        if !(1..=MAX_REVISION).contains(&revision)
            || !(-1..=revision).contains(&compacted)
            || !(-1..=compacted).contains(&removed_to)
            || bytes_written.max(bytes_removed) > MAX_BYTES
        {
            return Err(StorageError(format!(
                "revision {revision}, compacted {compacted}, removed to {removed_to}, {bytes_written} bytes written and \
                 {bytes_removed} removed do not go together: the state store is damaged"
            )));
        }
        let index = load_index(&backend, revision)?;
        Ok(Self {
            shared: Arc::new(Shared {
                backend,
                index: RwLock::new(index),
                published: AtomicI64::new(revision),
                compacted: AtomicI64::new(compacted),
                removed_to: AtomicI64::new(removed_to),
                pins: Pins::default(),
                bytes_written: AtomicU64::new(bytes_written),
                bytes_removed: AtomicU64::new(bytes_removed),
            }),
        })
    }

    /// Newest readable revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.shared.published.load(Ordering::Acquire)
    }

    /// Revisions below this one cannot be read; −1 if nothing was ever compacted.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.shared.compacted.load(Ordering::Acquire)
    }

    /// Number of live keys.
    #[must_use]
    pub fn live_keys(&self) -> usize {
        self.shared.index.read().len()
    }

    /// Bytes of all retained versions (key + value + a fixed overhead each): what the quota counts.
    #[must_use]
    pub fn bytes_in_use(&self) -> u64 {
        let removed = self.shared.bytes_removed.load(Ordering::Relaxed);
        self.shared.bytes_written.load(Ordering::Relaxed).saturating_sub(removed)
    }

    /// The engine beneath.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.shared.backend
    }
}

fn load_index<B: Backend>(backend: &B, revision: i64) -> Result<Index, StorageError> {
    let mut cursor = backend.cursor(Table::Live, None);
    cursor.seek(&[])?;
    let mut failure = None;
    let rows = std::iter::from_fn(|| {
        let (key, value) = cursor.row()?;
        let entry = row::decode_live(value).and_then(|meta| match meta.main <= revision {
            true => Ok((key.into(), meta)),
            false => Err(row::damaged("live")),
        });
        let entry = entry.and_then(|e| cursor.step().map(|()| e));
        entry.map_err(|e| failure = Some(e)).ok()
    });
    let tree = CountedTree::from_sorted(rows);
    match failure {
        Some(e) => Err(e),
        None => Ok(Index::load(tree, revision)),
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyRange, MemoryBackend, Query};

    #[test]
    fn marks_that_do_not_go_together_are_refused_when_the_store_is_opened() {
        let opened = |rows: &[(&[u8], i64)]| {
            let backend = MemoryBackend::default();
            let mut batch = backend.batch();
            rows.iter().for_each(|(key, value)| put_u64(&mut batch, key, value.cast_unsigned()));
            backend.write(batch).unwrap();
            Store::open(backend)
        };
        let sound = opened(&[(meta_key::REVISION, 9), (meta_key::COMPACTED, 9), (meta_key::REMOVED_TO, 3)]).unwrap();
        let all = KeyRange::Span(Vec::new(), None);
        let newest = Query { range: all, revision: 0, limit: 0, keys_only: false, count_only: false, count: true };
        assert_eq!(sound.range(&newest, ReadMode::Blocking).unwrap().count, 0);
        for damaged in [
            [(meta_key::REVISION, i64::MAX)].as_slice(),
            &[(meta_key::REVISION, -1)],
            // Readers of the newest revision would wait for one above the compaction for ever.
            &[(meta_key::REVISION, 5), (meta_key::COMPACTED, 6)],
            &[(meta_key::REVISION, 5), (meta_key::COMPACTED, i64::MIN)],
            &[(meta_key::REVISION, 5), (meta_key::COMPACTED, 3), (meta_key::REMOVED_TO, 4)],
            &[(meta_key::BYTES_WRITTEN, -1)],
            &[(meta_key::BYTES_REMOVED, -1)],
        ] {
            assert!(opened(damaged).is_err_and(|e| e.0.contains("damaged")), "{damaged:?}");
        }
    }
}
