//! An engine in memory: for tests of everything above it, and for simulations.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::backend::{Backend, Cursor, GetError, ReadMode, StorageError, Table, WriteBatch};

type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

/// Ordered maps behind a lock. A cursor copies the map's handle, so it sees one moment.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    rows: Arc<RwLock<Arc<Rows>>>,
}

impl MemoryBackend {
    /// What is there now, as an engine of its own: neither sees what is written to the other from here on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { rows: Arc::new(RwLock::new(self.rows.read().clone())) }
    }
}

enum Op {
    Put(Table, Vec<u8>, Bytes),
    Delete(Table, Vec<u8>),
    DeleteRange(Table, Vec<u8>, Vec<u8>),
}

/// Collected changes.
#[derive(Default)]
pub struct MemoryBatch {
    ops: Vec<Op>,
    size: usize,
}

impl WriteBatch for MemoryBatch {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.size += key.len() + value.len();
        self.ops.push(Op::Put(table, key.to_vec(), Bytes::copy_from_slice(value)));
    }
    fn delete(&mut self, table: Table, key: &[u8]) {
        self.size += key.len();
        self.ops.push(Op::Delete(table, key.to_vec()));
    }
    fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        self.ops.push(Op::DeleteRange(table, from.to_vec(), to.to_vec()));
    }
    fn size(&self) -> usize {
        self.size
    }
}

/// Walks one table of one moment.
pub struct MemoryCursor {
    rows: Arc<Rows>,
    table: Table,
    end: Option<Vec<u8>>,
    at: Option<Vec<u8>>,
}

impl MemoryCursor {
    fn settle(&mut self, from: Bound<(Table, Vec<u8>)>) {
        let next = self.rows.range((from, Bound::Unbounded)).next().map(|((t, k), _)| (*t, k));
        self.at = next.filter(|(t, k)| *t == self.table && self.end.as_ref().is_none_or(|e| *k < e)).map(|(_, k)| k.clone());
    }
}

impl Cursor for MemoryCursor {
    fn seek(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.settle(Bound::Included((self.table, key.to_vec())));
        Ok(())
    }
    fn step(&mut self) -> Result<(), StorageError> {
        if let Some(at) = self.at.take() {
            self.settle(Bound::Excluded((self.table, at)));
        }
        Ok(())
    }
    fn row(&self) -> Option<(&[u8], &[u8])> {
        let at = self.at.as_ref()?;
        let (key, value) = self.rows.get_key_value(&(self.table, at.clone()))?;
        Some((&key.1, value))
    }
}

impl Backend for MemoryBackend {
    type Batch = MemoryBatch;
    type Cursor<'a> = MemoryCursor;

    fn batch(&self) -> MemoryBatch {
        MemoryBatch::default()
    }

    fn write(&self, batch: MemoryBatch) -> Result<(), StorageError> {
        let mut guard = self.rows.write();
        let rows = Arc::make_mut(&mut guard);
        for op in batch.ops {
            match op {
                Op::Put(t, k, v) => drop(rows.insert((t, k), v)),
                Op::Delete(t, k) => drop(rows.remove(&(t, k))),
                Op::DeleteRange(t, from, to) => {
                    let doomed: Vec<_> = rows.range((t, from)..(t, to)).map(|(k, _)| k.clone()).collect();
                    doomed.iter().for_each(|k| drop(rows.remove(k)));
                }
            }
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8], _mode: ReadMode) -> Result<Option<Bytes>, GetError> {
        Ok(self.rows.read().get(&(table, key.to_vec())).cloned())
    }

    fn cursor(&self, table: Table, end: Option<&[u8]>) -> MemoryCursor {
        MemoryCursor { rows: self.rows.read().clone(), table, end: end.map(<[u8]>::to_vec), at: None }
    }
}
