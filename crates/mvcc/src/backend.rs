//! What the store asks of the key-value engine beneath it.

use bytes::Bytes;

/// The four tables of the store. Their layout is in `docs/formats/state.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Small named rows: applied position, revisions, leases, alarms, members.
    Meta,
    /// Escaped key + inverted revision → metadata and value. The only copy of values.
    History,
    /// (main, sub) → what changed; drives watch replay and compaction.
    Revisions,
    /// Key → metadata of its newest version; rebuilds the index after a restart.
    Live,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 4] = [Table::Meta, Table::History, Table::Revisions, Table::Live];
}

/// The engine failed or its data is damaged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);

/// How far a read may go for its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// Memory only; answers "would block" when the disk is needed. For async threads.
    CacheOnly,
    /// Wherever the data is.
    Blocking,
}

/// Changes that take effect together.
pub trait WriteBatch: Send {
    /// Sets a row.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]);
    /// Removes a row.
    fn delete(&mut self, table: Table, key: &[u8]);
    /// Removes all rows in `from..to`.
    fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]);
    /// Bytes of keys and values collected so far.
    fn size(&self) -> usize;
}

/// A forward cursor over one table, pinned to the moment it was opened.
pub trait Cursor {
    /// Moves to the first row at or after `key`.
    fn seek(&mut self, key: &[u8]) -> Result<(), StorageError>;
    /// Moves to the next row.
    fn step(&mut self) -> Result<(), StorageError>;
    /// The row under the cursor, `None` past the end.
    fn row(&self) -> Option<(&[u8], &[u8])>;
}

/// An ordered key-value engine. Writes come from one thread per table group, reads from any.
pub trait Backend: Send + Sync + 'static {
    /// A write batch of this engine.
    type Batch: WriteBatch;
    /// A cursor of this engine.
    type Cursor<'a>: Cursor
    where
        Self: 'a;

    /// An empty batch.
    fn batch(&self) -> Self::Batch;
    /// Applies a batch atomically. It need not be durable: the log replays what is lost.
    fn write(&self, batch: Self::Batch) -> Result<(), StorageError>;
    /// Reads one row; `Ok(Err(WouldBlock))` only in [`ReadMode::CacheOnly`].
    fn get(&self, table: Table, key: &[u8], mode: ReadMode) -> Result<Option<Bytes>, GetError>;
    /// Opens a cursor over `table` that will not be moved past `end`.
    fn cursor(&self, table: Table, end: Option<&[u8]>) -> Self::Cursor<'_>;
    /// The same for one pass over many rows, too many to be worth keeping in memory.
    fn cursor_for_many(&self, table: Table, end: Option<&[u8]>) -> Self::Cursor<'_> {
        self.cursor(table, end)
    }
}

/// Why a point read gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GetError {
    /// The row is not in memory and the caller asked not to wait for the disk.
    #[error("the row is not cached")]
    WouldBlock,
    /// The engine failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
