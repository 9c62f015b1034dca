//! The raft log store: numbered segment files, written by one thread, read by any. It knows rows, not
//! what is in them.
//!
//! Why it has files of its own and is no RocksDB: `docs/decisions/0010-log-in-segments.md`.

mod contents;
mod frame;
mod queue;
mod recover;
mod segment;
mod spare;
mod waits;
mod writer;

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;

use self::contents::{Contents, Place};
use self::queue::Queue;
use self::segment::failed;
pub use self::waits::LogWaits;
use self::writer::{LazyMarks, Op, Writer};

/// The log could not be read or written. After a failed write nothing more is written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct LogError(pub String);

/// What one write to the log took.
#[derive(Clone, Copy, Debug)]
pub struct LogWrite {
    /// Bytes that were written.
    pub bytes: usize,
    /// Time of writing them.
    pub write: Duration,
    /// Time of the sync that followed, unless there is none.
    pub sync: Option<Duration>,
}

/// Told of each write.
pub type SyncObserver = Arc<dyn Fn(LogWrite) + Send + Sync>;

/// Indexes of the entries that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// Oldest entry, if there is any.
    pub first: Option<u64>,
    /// Newest entry.
    pub last: Option<u64>,
}

/// Entries that lie in one file.
type Found = (Vec<(u64, Place)>, PathBuf, File);

/// The raft log of one member.
pub struct LogStore {
    dir: PathBuf,
    contents: Arc<RwLock<Contents>>,
    lazy: LazyMarks,
    queue: Queue,
    waits: Arc<LogWaits>,
}

impl LogStore {
    /// Files that are open at a time: two that are written, and one for each read that is under way.
    pub const MAX_OPEN_FILES: usize = 16;

    /// Opens or creates the log in `path`. A torn tail, as a power cut leaves it, is cut off; damage
    /// before the tail is an error.
    pub fn open(path: &Path, sync: bool, observer: SyncObserver) -> Result<Self, LogError> {
        let (contents, lazy) = (Arc::new(RwLock::new(Contents::default())), LazyMarks::default());
        let waits = Arc::new(LogWaits::new());
        let writer = Writer::open(path, sync, observer, contents.clone(), lazy.clone(), waits.clone())?;
        Ok(Self { dir: path.to_owned(), contents, lazy, queue: Queue::start(writer)?, waits })
    }

    /// How long it has been waiting for the disk.
    #[must_use]
    pub fn waits(&self) -> Arc<LogWaits> {
        self.waits.clone()
    }

    /// Which entries are there.
    #[must_use]
    pub fn bounds(&self) -> LogBounds {
        self.contents.read().bounds()
    }

    /// Reads the entries of a range of indexes, stopping early where `max_bytes` are exceeded or a segment
    /// ends; none only if there are none.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, LogError> {
        let Some((places, path, file)) = self.find(range, max_bytes)? else { return Ok(Vec::new()) };
        let row = |(index, place): (u64, Place)| {
            let mut row = vec![0; place.length as usize];
            file.read_exact_at(&mut row, place.offset).map_err(|e| failed("read", &path, &e))?;
            if crc32c::crc32c(&row) == place.checksum {
                Ok((index, row.into()))
            } else {
                Err(segment::damaged(&path, &format!("entry {index} is not what was written")))
            }
        };
        places.into_iter().map(row).collect()
    }

    /// Where entries lie, and the file: once open it stays readable, even when it is removed.
    fn find(&self, range: Range<u64>, max_bytes: usize) -> Result<Option<Found>, LogError> {
        loop {
            let Some((places, path)) = self.look_up(range.clone(), max_bytes) else { return Ok(None) };
            match File::open(&path) {
                Ok(file) => return Ok(Some((places, path, file))),
                // Removed meanwhile, with its entries.
                Err(e)
                    if e.kind() == std::io::ErrorKind::NotFound
                        && self.look_up(range.clone(), 0).is_none_or(|(_, now)| now != path) => {}
                Err(e) => return Err(failed("open", &path, &e)),
            }
        }
    }

    fn look_up(&self, range: Range<u64>, max_bytes: usize) -> Option<(Vec<(u64, Place)>, PathBuf)> {
        let contents = self.contents.read();
        let mut entries = contents.from(range.start).take_while(|(index, _)| *index < range.end).peekable();
        let segment = entries.peek().map(|(_, place)| place.segment)?;
        let mut bytes = 0;
        let fits = |(_, place): &(u64, Place)| {
            let before = bytes;
            bytes += place.length as usize;
            place.segment == segment && before <= max_bytes
        };
        Some((entries.take_while(fits).collect(), segment::path(&self.dir, segment)))
    }

    /// Reads a mark: a small row that is not an entry.
    #[must_use]
    pub fn mark(&self, name: &str) -> Option<Vec<u8>> {
        self.contents.read().mark(name).cloned()
    }

    /// Lets callers of `append` write what is small themselves, and block meanwhile, when the log's thread
    /// has nothing to do. Not for a leader whose followers write at the same time.
    pub fn write_at_once(&self, allowed: bool) {
        self.queue.write_at_once(allowed);
    }

    /// Appends entries; `done` is called once they are durable, by the log's thread or before this returns.
    pub fn append(&self, rows: Vec<(u64, Bytes)>, done: impl FnOnce(Result<(), LogError>) + Send + 'static) {
        self.queue.add(Op::Append { rows, done: Box::new(done) });
    }

    /// Sets a mark durably.
    pub fn set_mark(&self, name: &'static str, value: Vec<u8>, done: impl FnOnce(Result<(), LogError>) + Send + 'static) {
        self.queue.add(Op::Mark { name, value, done: Box::new(done) });
    }

    /// Sets a mark that may be lost in a crash: it is written along with the next operation.
    pub fn set_mark_lazily(&self, name: &'static str, value: Vec<u8>) {
        self.lazy.lock().insert(name, value);
    }

    /// Removes all entries from `index` on, durably.
    pub fn truncate_from(&self, index: u64, done: impl FnOnce(Result<(), LogError>) + Send + 'static) {
        self.queue.add(Op::TruncateFrom { index, done: Box::new(done) });
    }

    /// Removes all entries up to and including `index`, and remembers `mark` in the same write.
    pub fn purge(
        &self,
        index: u64,
        name: &'static str,
        value: Vec<u8>,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) {
        self.queue.add(Op::Purge { index, name, value, done: Box::new(done) });
    }
}

#[cfg(test)]
mod tests;
