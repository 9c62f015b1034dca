//! What consensus needs of the disk its log is on. Files are the storage crate's; a simulation has a disk that loses
//! what was not synced.

use std::ops::Range;

use bytes::Bytes;
use keelson_storage::{LogBounds, LogError, LogStore};

/// Called once an operation is durable, or has failed.
pub type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// A raft log: rows by index, and a few marks. Operations take effect in the order in which they were asked for.
pub trait LogDisk: Send + Sync + 'static {
    /// Which entries are there.
    fn bounds(&self) -> LogBounds;
    /// Reads the entries of a range of indexes, stopping early once `max_bytes` are exceeded.
    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, LogError>;
    /// Reads a mark.
    fn mark(&self, name: &str) -> Option<Vec<u8>>;
    /// Appends entries.
    fn append(&self, rows: Vec<(u64, Bytes)>, done: Done);
    /// Whether `append` may write what is small before it returns.
    fn write_at_once(&self, allowed: bool);
    /// Sets a mark durably.
    fn set_mark(&self, name: &'static str, value: Vec<u8>, done: Done);
    /// Sets a mark that may be lost in a crash.
    fn set_mark_lazily(&self, name: &'static str, value: Vec<u8>);
    /// Removes all entries from `index` on.
    fn truncate_from(&self, index: u64, done: Done);
    /// Removes all entries up to and including `index`, and sets a mark with it. May be lost in a crash.
    fn purge(&self, index: u64, name: &'static str, value: Vec<u8>, done: Done);
}

impl LogDisk for LogStore {
    fn bounds(&self) -> LogBounds {
        self.bounds()
    }
    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, LogError> {
        self.read(range, max_bytes)
    }
    fn mark(&self, name: &str) -> Option<Vec<u8>> {
        self.mark(name)
    }
    fn append(&self, rows: Vec<(u64, Bytes)>, done: Done) {
        self.append(rows, done);
    }
    fn write_at_once(&self, allowed: bool) {
        self.write_at_once(allowed);
    }
    fn set_mark(&self, name: &'static str, value: Vec<u8>, done: Done) {
        self.set_mark(name, value, done);
    }
    fn set_mark_lazily(&self, name: &'static str, value: Vec<u8>) {
        self.set_mark_lazily(name, value);
    }
    fn truncate_from(&self, index: u64, done: Done) {
        self.truncate_from(index, done);
    }
    fn purge(&self, index: u64, name: &'static str, value: Vec<u8>, done: Done) {
        self.purge(index, name, value, done);
    }
}
