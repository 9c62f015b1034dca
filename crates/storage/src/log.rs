//! The raft log store: its own RocksDB instance, written by one thread (see `log_thread`), read by
//! any. It knows rows, not what is in them.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rocksdb::{ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind, Options, ReadOptions};

use crate::log_thread::{self, LogWaits, Op};
use crate::state::max_open_files;

pub(crate) const ENTRIES: &str = "entries";
pub(crate) const MARKS: &str = "marks";

/// The log could not be read or written. After a failed write nothing more is written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct LogError(pub String);

/// Told how long each write-and-sync took, and how many bytes it wrote.
pub type SyncObserver = Arc<dyn Fn(Duration, usize) + Send + Sync>;

/// Indexes of the entries that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// Oldest entry, if there is any.
    pub first: Option<u64>,
    /// Newest entry.
    pub last: Option<u64>,
}

/// The raft log of one member.
pub struct LogStore {
    db: Arc<DB>,
    queue: mpsc::Sender<Op>,
    thread: Option<JoinHandle<()>>,
    waits: Arc<LogWaits>,
}

fn error(e: impl std::fmt::Display) -> LogError {
    LogError(format!("raft log: {e}"))
}

/// The last index of all is never reached, and whoever counts on from it would overflow.
fn index_of(key: &[u8]) -> Result<u64, LogError> {
    let index = key.try_into().map(u64::from_be_bytes).ok().filter(|index| *index < u64::MAX);
    index.ok_or_else(|| LogError("raft log: the key of an entry cannot be decoded: the raft log is damaged".into()))
}

impl LogStore {
    /// Tables that are kept open. They are read at start and for members that lag, so a few will do.
    pub const MAX_OPEN_TABLES: usize = 20;

    /// Opens or creates the log in `path`. A torn tail, as a power cut leaves it, is cut off; damage
    /// before the tail is an error.
    pub fn open(path: &Path, sync: bool, observer: SyncObserver) -> Result<Self, LogError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_background_jobs(2);
        options.set_max_open_files(max_open_files(Some(Self::MAX_OPEN_TABLES)));
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(8 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_max_total_wal_size(256 << 20);
        let mut entries = Options::default();
        entries.set_compression_type(DBCompressionType::None);
        entries.set_write_buffer_size(32 << 20);
        entries.set_max_write_buffer_number(3);
        let tables = [ColumnFamilyDescriptor::new(ENTRIES, entries), ColumnFamilyDescriptor::new(MARKS, Options::default())];
        let db = DB::open_cf_descriptors(&options, path, tables).map_err(|e| {
            let advice = match e.kind() {
                ErrorKind::Corruption => {
                    "acknowledged writes may be among what is damaged, so it is not repaired: remove this member, empty its \
                     data directory and add it again, or restore a backup"
                }
                _ => "check that the disk is in order and has space, and that the files are readable",
            };
            LogError(format!("cannot open the raft log {}: {e}; {advice}", path.display()))
        })?;
        let db = Arc::new(db);
        let (queue, ops) = mpsc::channel();
        let waits = Arc::new(LogWaits::new());
        let writer = log_thread::Writer::new(db.clone(), sync, observer, waits.clone());
        let thread = std::thread::Builder::new().name("raft-log".into()).spawn(move || writer.run(&ops)).map_err(error)?;
        Ok(Self { db, queue, thread: Some(thread), waits })
    }

    /// How long its thread has been waiting for the disk.
    #[must_use]
    pub fn waits(&self) -> Arc<LogWaits> {
        self.waits.clone()
    }

    /// Which entries are there.
    pub fn bounds(&self) -> Result<LogBounds, LogError> {
        let entries = self.db.cf_handle(ENTRIES).expect("opened");
        let mut iterator = self.db.raw_iterator_cf(entries);
        iterator.seek_to_first();
        let first = iterator.key().map(index_of).transpose()?;
        iterator.seek_to_last();
        let last = iterator.key().map(index_of).transpose()?;
        iterator.status().map_err(error)?;
        Ok(LogBounds { first, last })
    }

    /// Reads the entries of a range of indexes, stopping early once `max_bytes` are exceeded.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, LogError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.end.to_be_bytes());
        let mut iterator = self.db.raw_iterator_cf_opt(self.db.cf_handle(ENTRIES).expect("opened"), options);
        iterator.seek(range.start.to_be_bytes());
        let mut rows = Vec::new();
        let mut bytes = 0;
        while let Some((key, value)) = iterator.item() {
            rows.push((index_of(key)?, Bytes::copy_from_slice(value)));
            bytes += value.len();
            if bytes > max_bytes {
                break;
            }
            iterator.next();
        }
        iterator.status().map_err(error)?;
        Ok(rows)
    }

    /// Reads a mark: a small row that is not an entry.
    pub fn mark(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        self.db.get_cf(self.db.cf_handle(MARKS).expect("opened"), name).map_err(error)
    }

    fn send(&self, op: Op) {
        // The thread ends only after this sender is dropped, or with the process.
        if let Err(mpsc::SendError(op)) = self.queue.send(op) {
            op.fail(&LogError("raft log: its thread has ended".into()));
        }
    }

    /// Appends entries; `done` is called from the log thread once they are durable.
    pub fn append(&self, rows: Vec<(u64, Bytes)>, done: impl FnOnce(Result<(), LogError>) + Send + 'static) {
        self.send(Op::Append { rows, done: Box::new(done) });
    }

    /// Sets a mark durably.
    pub fn set_mark(&self, name: &'static str, value: Vec<u8>, done: impl FnOnce(Result<(), LogError>) + Send + 'static) {
        self.send(Op::Mark { name, value, done: Some(Box::new(done)) });
    }

    /// Sets a mark that may be lost in a crash; it becomes durable with the next synced write.
    pub fn set_mark_lazily(&self, name: &'static str, value: Vec<u8>) {
        self.send(Op::Mark { name, value, done: None });
    }

    /// Removes all entries from `index` on, durably.
    pub fn truncate_from(&self, index: u64, done: impl FnOnce(Result<(), LogError>) + Send + 'static) {
        self.send(Op::TruncateFrom { index, done: Box::new(done) });
    }

    /// Removes all entries up to and including `index`, and remembers `mark` in the same write.
    pub fn purge(
        &self,
        index: u64,
        name: &'static str,
        value: Vec<u8>,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) {
        self.send(Op::Purge { index, name, value, done: Box::new(done) });
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        self.queue = closed;
        if let Some(thread) = self.thread.take() {
            // A panic of the log thread has been reported by its panic message already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_at_the_last_index_of_all_is_refused() {
        assert!(index_of(&u64::MAX.to_be_bytes()).is_err());
        assert_eq!(index_of(&7_u64.to_be_bytes()).unwrap(), 7);
    }
}
