//! Reads at one revision. Small ones go through the index to the exact rows, large ones and those
//! the index cannot answer scan the history table.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use keelson_api::Revision;
use keelson_api::mvccpb::KeyValue;

use crate::backend::{Backend, Cursor, GetError, ReadMode, StorageError, Table};
use crate::index::Lookup;
use crate::key::{KeyRange, history_after, history_bounds, history_key, split_history_key, unescape};
use crate::row;
use crate::store::{Shared, Store};

/// Up to this many keys are fetched one by one; more are scanned.
const POINT_READS: usize = 64;
/// Rows of one key that are stepped over before the cursor seeks past them.
const STEPS_BEFORE_SEEK: usize = 8;

/// What to read.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which keys.
    pub range: KeyRange,
    /// At which revision; 0 or less means the newest.
    pub revision: i64,
    /// At most so many keys are returned; 0 means all.
    pub limit: usize,
    /// Keys and metadata without values (and, as etcd does it, without leases).
    pub keys_only: bool,
    /// No keys at all.
    pub count_only: bool,
    /// Whether `Range::count` is wanted.
    pub count: bool,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// Keys in order, at most the limit.
    pub kvs: Vec<KeyValue>,
    /// Keys in the whole range, whatever the limit; 0 if it was not asked for.
    pub count: usize,
    /// The store's revision when the read began.
    pub revision: i64,
}

/// Why a read gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision is below the compaction.
    #[error("the revision has been compacted")]
    Compacted,
    /// The revision is not there yet.
    #[error("the revision is in the future")]
    Future,
    /// It needs the disk and the caller asked not to wait.
    #[error("the read needs the disk")]
    WouldBlock,
    /// The engine failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<GetError> for ReadError {
    fn from(e: GetError) -> Self {
        match e {
            GetError::WouldBlock => Self::WouldBlock,
            GetError::Storage(e) => Self::Storage(e),
        }
    }
}

/// Rows written by the current batch, not yet in the engine: history key → row.
pub(crate) type Pending = BTreeMap<Vec<u8>, Bytes>;

impl<B: Backend> Store<B> {
    /// Reads keys at one revision.
    pub fn range(&self, query: &Query, mode: ReadMode) -> Result<Range, ReadError> {
        loop {
            let current = self.revision();
            let found = View { shared: &self.shared, pending: None, mode }.range(query, current);
            // A compaction beyond what was the newest revision may have taken rows away under the read.
            if query.revision > 0 || self.compacted() <= current {
                return found;
            }
        }
    }

    /// Whether [`Self::list`] suits a query better than [`Self::range`]: many keys, or unknown how many.
    pub fn is_large(&self, query: &Query) -> bool {
        let revision = if query.revision <= 0 { self.revision() } else { query.revision };
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        limit > POINT_READS && self.shared.index.read().count(&query.range, revision).is_none_or(|c| c.min(limit) > POINT_READS)
    }

    /// The version of `key` that was written at `at`, if it is still there.
    pub fn version(&self, key: &Bytes, at: Revision, mode: ReadMode) -> Result<Option<KeyValue>, ReadError> {
        View { shared: &self.shared, pending: None, mode }.version(key, at)
    }
}

/// The store as seen by a reader, or by the writer with its unwritten rows on top.
pub(crate) struct View<'a, B> {
    pub(crate) shared: &'a Shared<B>,
    pub(crate) pending: Option<&'a Pending>,
    pub(crate) mode: ReadMode,
}

impl<B: Backend> View<'_, B> {
    pub(crate) fn range(&self, query: &Query, current: i64) -> Result<Range, ReadError> {
        if query.revision > current {
            return Err(ReadError::Future);
        }
        let revision = if query.revision <= 0 { current } else { query.revision };
        self.check_compacted(query.revision, revision)?;
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };

        let (count, lookup) = {
            let index = self.shared.index.read();
            let count = index.count(&query.range, revision);
            let small = query.keys_only || count.is_some_and(|c| c.min(limit) <= POINT_READS);
            let lookup = if query.count_only {
                Lookup::Certain(Vec::new())
            } else if small {
                index.lookup(&query.range, revision, limit)
            } else {
                Lookup::AskHistory
            };
            (count, lookup)
        };
        let count = match count {
            Some(count) => count,
            None if query.count || query.count_only => self.scan(&query.range, revision, usize::MAX, true)?.len(),
            None => 0,
        };
        let kvs = match lookup {
            Lookup::Certain(keys) => match self.fetch(&keys, query.keys_only)? {
                Some(kvs) => kvs,
                None => self.scan(&query.range, revision, limit, query.keys_only)?,
            },
            Lookup::AskHistory => self.scan(&query.range, revision, limit, query.keys_only)?,
        };
        // Removal may have overtaken a read that began just above the compaction.
        self.check_compacted(query.revision, revision)?;
        Ok(Range { kvs, count, revision: current })
    }

    /// Keys in `range` at `revision`.
    pub(crate) fn count(&self, range: &KeyRange, revision: i64) -> Result<usize, ReadError> {
        let known = self.shared.index.read().count(range, revision);
        known.map_or_else(|| Ok(self.scan(range, revision, usize::MAX, true)?.len()), Ok)
    }

    fn check_compacted(&self, asked: i64, revision: i64) -> Result<(), ReadError> {
        let compacted = self.shared.compacted.load(Ordering::Acquire);
        if asked > 0 && revision < compacted { Err(ReadError::Compacted) } else { Ok(()) }
    }

    fn row(&self, history_key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        if let Some(row) = self.pending.and_then(|p| p.get(history_key)) {
            return Ok(Some(row.clone()));
        }
        Ok(self.shared.backend.get(Table::History, history_key, self.mode)?)
    }

    pub(crate) fn version(&self, key: &Bytes, at: Revision) -> Result<Option<KeyValue>, ReadError> {
        let Some(row) = self.row(&history_key(key, at))? else { return Ok(None) };
        let version = row::decode_version(&row, at)?;
        Ok(version.map(|(meta, value_at)| row::key_value(key.clone(), &meta, row.slice(value_at..))))
    }

    /// Fetches exact versions; `None` if one of them was removed meanwhile.
    fn fetch(&self, keys: &[(Box<[u8]>, crate::KeyMeta)], keys_only: bool) -> Result<Option<Vec<KeyValue>>, ReadError> {
        let mut kvs = Vec::with_capacity(keys.len());
        for (key, meta) in keys {
            let key = Bytes::copy_from_slice(key);
            if keys_only {
                kvs.push(row::key_value(key, &crate::KeyMeta { lease: 0, ..*meta }, Bytes::new()));
            } else {
                match self.version(&key, meta.revision())? {
                    Some(kv) => kvs.push(kv),
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(kvs))
    }

    fn scan(&self, range: &KeyRange, revision: i64, limit: usize, keys_only: bool) -> Result<Vec<KeyValue>, ReadError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if self.mode == ReadMode::CacheOnly {
            return Err(ReadError::WouldBlock);
        }
        match self.pending {
            Some(pending) if !pending.is_empty() => self.scan_over_pending(pending, range, revision, limit, keys_only),
            _ => {
                let mut kvs = Vec::new();
                scan_history(&self.shared.backend, range, revision, |escaped, at, row| {
                    if let Some(kv) = version_of(escaped, at, &Bytes::copy_from_slice(row), keys_only)? {
                        kvs.push(kv);
                    }
                    Ok(kvs.len() < limit)
                })?;
                Ok(kvs)
            }
        }
    }

    fn scan_over_pending(
        &self,
        pending: &Pending,
        range: &KeyRange,
        revision: i64,
        limit: usize,
        keys_only: bool,
    ) -> Result<Vec<KeyValue>, ReadError> {
        let mut newest: BTreeMap<Vec<u8>, (Revision, Bytes)> = BTreeMap::new();
        scan_history(&self.shared.backend, range, revision, |escaped, at, row| {
            newest.insert(escaped.to_vec(), (at, Bytes::copy_from_slice(row)));
            Ok(true)
        })?;
        let (from, to) = history_bounds(range);
        for (key, row) in pending.range(from..).take_while(|(k, _)| to.as_ref().is_none_or(|to| *k < to)) {
            let (escaped, at) = split_history_key(key).ok_or_else(|| damaged_key("history"))?;
            if at.main <= revision && newest.get(escaped).is_none_or(|(newer, _)| *newer < at) {
                newest.insert(escaped.to_vec(), (at, row.clone()));
            }
        }
        let mut kvs = Vec::new();
        for (escaped, (at, row)) in &newest {
            if kvs.len() == limit {
                break;
            }
            kvs.extend(version_of(escaped, *at, row, keys_only)?);
        }
        Ok(kvs)
    }
}

fn version_of(escaped: &[u8], at: Revision, row: &Bytes, keys_only: bool) -> Result<Option<KeyValue>, StorageError> {
    let Some((mut meta, value_at)) = row::decode_version(row, at)? else { return Ok(None) };
    let value = if keys_only {
        meta.lease = 0;
        Bytes::new()
    } else {
        row.slice(value_at..)
    };
    Ok(Some(row::key_value(user_key(escaped)?.into(), &meta, value)))
}

/// A key of a table is not one that this store writes.
pub(crate) fn damaged_key(table: &str) -> StorageError {
    StorageError(format!("a key of table {table} cannot be decoded: the state store is damaged"))
}

/// The key that a client knows, from its form in the history.
pub(crate) fn user_key(escaped: &[u8]) -> Result<Vec<u8>, StorageError> {
    unescape(escaped).ok_or_else(|| damaged_key("history"))
}

/// Visits the newest row at or below `revision` of each key in `range`, tombstones included, until
/// the visitor answers false.
pub(crate) fn scan_history<B: Backend>(
    backend: &B,
    range: &KeyRange,
    revision: i64,
    visit: impl FnMut(&[u8], Revision, &[u8]) -> Result<bool, StorageError>,
) -> Result<(), StorageError> {
    let (from, to) = history_bounds(range);
    scan_from(backend.cursor(Table::History, to.as_deref()), &from, revision, visit)
}

/// The same, from `from` to the end of a cursor over the history.
pub(crate) fn scan_from<C: Cursor>(
    mut cursor: C,
    from: &[u8],
    revision: i64,
    mut visit: impl FnMut(&[u8], Revision, &[u8]) -> Result<bool, StorageError>,
) -> Result<(), StorageError> {
    cursor.seek(from)?;
    let mut key: Vec<u8> = Vec::new();
    let mut done_with_key = false;
    let mut steps = 0;
    while let Some((raw, row)) = cursor.row() {
        let (escaped, at) = split_history_key(raw).ok_or_else(|| damaged_key("history"))?;
        if escaped != key.as_slice() {
            key.clear();
            key.extend_from_slice(escaped);
            done_with_key = false;
            steps = 0;
        }
        if !done_with_key && at.main <= revision {
            if !visit(escaped, at, row)? {
                return Ok(());
            }
            done_with_key = true;
            steps = 0;
        }
        steps += 1;
        if steps <= STEPS_BEFORE_SEEK {
            cursor.step()?;
        } else if done_with_key {
            cursor.seek(&history_after(&user_key(&key)?))?;
        } else {
            cursor.seek(&history_key(&user_key(&key)?, Revision::new(revision, u32::MAX)))?;
        }
    }
    Ok(())
}
