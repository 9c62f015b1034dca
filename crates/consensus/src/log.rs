//! openraft's log storage on a [`LogDisk`], with the newest entries kept decoded in memory: they are
//! about to be replicated and applied, and must not be read back from disk for it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use keelson_storage::LogError;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::blocking::off_thread;
use crate::codec;
use crate::disk::{Done, LogDisk};
use crate::types::{RaftEntry, RaftLogId, RaftVote, Types};

/// Bytes of entries kept in memory.
const CACHE_BYTES: usize = 16 << 20;
/// Bytes read from disk at once.
const READ_BYTES: usize = 8 << 20;
/// Bytes of entries in one request to a follower, about.
pub(crate) const REQUEST_BYTES: usize = 1 << 20;

pub(crate) const VOTE: &str = "vote";
pub(crate) const COMMITTED: &str = "committed";
pub(crate) const PURGED: &str = "purged";

/// The newest entries, without a gap up to the last one.
#[derive(Default)]
struct Recent {
    entries: VecDeque<RaftEntry>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, entry: RaftEntry, durable: u64) {
        if self.entries.back().is_some_and(|last| last.log_id.index + 1 != entry.log_id.index) {
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += codec::weight(&entry);
        self.entries.push_back(entry);
        // What is not on disk yet can only be read from here.
        while self.bytes > CACHE_BYTES && self.entries.front().is_some_and(|e| e.log_id.index <= durable) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= codec::weight(&entry);
        }
    }

    fn first(&self) -> Option<u64> {
        self.entries.front().map(|e| e.log_id.index)
    }

    /// Entries of a range of indexes, stopping early once `max_bytes` are exceeded; `None` if it begins
    /// before what is kept.
    fn range(&self, from: u64, to: u64, max_bytes: usize) -> Option<Vec<RaftEntry>> {
        let first = self.first()?;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let take = usize::try_from(to.saturating_sub(from)).ok()?;
        let mut bytes = 0_usize;
        let fits = |e: &&RaftEntry| {
            let before = bytes;
            bytes += codec::weight(e);
            before <= max_bytes
        };
        Some(self.entries.iter().skip(skip).take(take).take_while(fits).cloned().collect())
    }

    fn truncate_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|e| e.log_id.index >= index) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= codec::weight(&entry);
            }
        }
    }

    fn purge_to(&mut self, index: u64) {
        while self.first().is_some_and(|first| first <= index) {
            self.pop_front();
        }
    }
}

struct Inner {
    store: Box<dyn LogDisk>,
    recent: Mutex<Recent>,
    durable: watch::Sender<u64>,
}

/// The log as openraft sees it; clones share one log.
#[derive(Clone)]
pub(crate) struct Log {
    inner: Arc<Inner>,
}

fn io_error(e: LogError) -> io::Error {
    io::Error::other(e)
}

/// Runs an operation of the log thread to its end.
async fn finished(start: impl FnOnce(Done)) -> io::Result<()> {
    let (tx, rx) = oneshot::channel();
    start(Box::new(move |result| {
        // Nobody waits any more: the node is being stopped.
        let _ = tx.send(result);
    }));
    rx.await.map_err(|_| io::Error::other("raft log: its thread has ended"))?.map_err(io_error)
}

impl Log {
    pub(crate) fn new(store: impl LogDisk) -> io::Result<Self> {
        let last = store.bounds().last.unwrap_or(0);
        let store = Box::new(store);
        let inner = Inner { store, recent: Mutex::default(), durable: watch::Sender::new(last) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether small entries are written by who appends them (see [`LogStore::write_at_once`]).
    pub(crate) fn write_at_once(&self, allowed: bool) {
        self.inner.store.write_at_once(allowed);
    }

    /// Index up to which the log is on this member's disk.
    pub(crate) fn durable(&self) -> watch::Receiver<u64> {
        self.inner.durable.subscribe()
    }

    /// The last committed position that was remembered. The mark may have got to disk before the entries that it is
    /// about; then those that are there are the first ones of what was committed.
    pub(crate) fn committed(&self) -> io::Result<Option<RaftLogId>> {
        Ok(self.mark(COMMITTED)?.min(self.last()?))
    }

    /// Position of the last entry, also if that has been purged.
    pub(crate) fn last(&self) -> io::Result<Option<RaftLogId>> {
        let Some(last) = self.inner.store.bounds().last else { return self.mark(PURGED) };
        let rows = self.inner.store.read(last..last + 1, usize::MAX).map_err(io_error)?;
        let (index, row) = rows.into_iter().next().ok_or_else(|| codec::damaged("the last log entry"))?;
        Ok(Some(codec::decode_entry(index, row)?.log_id))
    }

    fn mark(&self, name: &str) -> io::Result<Option<RaftLogId>> {
        self.inner.store.mark(name).map(|row| codec::decode_log_id(&row)).transpose()
    }
}

impl Log {
    /// Reads entries, from memory if they are there, at least one and about `max_bytes`.
    async fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<RaftEntry>, io::Error> {
        if let Some(entries) = self.inner.recent.lock().range(from, to, max_bytes) {
            return Ok(entries);
        }
        let inner = self.inner.clone();
        off_thread(move || inner.read(from, to, max_bytes)).await
    }
}

impl Inner {
    /// Reads entries from disk, and the rest from memory where it may not be on disk yet.
    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<RaftEntry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        while next < to && bytes <= max_bytes {
            let rows = self.store.read(next..to, READ_BYTES.min(max_bytes - bytes)).map_err(io_error)?;
            if rows.is_empty() {
                break;
            }
            for (index, row) in rows {
                bytes += row.len();
                entries.push(codec::decode_entry(index, row)?);
                next = index + 1;
            }
            if bytes <= max_bytes
                && let Some(rest) = self.recent.lock().range(next, to, max_bytes - bytes)
            {
                entries.extend(rest);
                break;
            }
        }
        Ok(entries)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(i) => i + 1,
            Bound::Excluded(i) => *i,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(from, to, REQUEST_BYTES).await
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        self.inner.store.mark(VOTE).map(|row| codec::decode_vote(&row)).transpose()
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(LogState { last_purged_log_id: self.mark(PURGED)?, last_log_id: self.last()? })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        finished(|done| self.inner.store.set_mark(VOTE, codec::encode_vote(vote), done)).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), io::Error> {
        if let Some(id) = committed {
            self.inner.store.set_mark_lazily(COMMITTED, codec::encode_log_id(&id));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        self.committed()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        {
            let durable = *self.inner.durable.borrow();
            let mut recent = self.inner.recent.lock();
            for entry in entries {
                rows.push((entry.log_id.index, codec::encode_entry(&entry)));
                recent.push(entry, durable);
            }
        }
        let Some(last) = rows.last().map(|(index, _)| *index) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let durable = self.inner.durable.clone();
        let done = move |result: Result<(), LogError>| {
            if result.is_ok() {
                durable.send_replace(last);
            }
            callback.io_completed(result.map_err(io_error));
        };
        self.inner.store.append(rows, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.inner.recent.lock().truncate_from(from);
        finished(|done| self.inner.store.truncate_from(from, done)).await?;
        self.inner.durable.send_if_modified(|d| {
            let shorter = *d >= from;
            *d = (*d).min(from.saturating_sub(1));
            shorter
        });
        Ok(())
    }

    async fn purge(&mut self, upto: RaftLogId) -> Result<(), io::Error> {
        self.inner.recent.lock().purge_to(upto.index);
        finished(|done| self.inner.store.purge(upto.index, PURGED, codec::encode_log_id(&upto), done)).await
    }
}

#[cfg(test)]
mod tests {
    use keelson_storage::LogStore;
    use openraft::EntryPayload;

    use super::*;
    use crate::fit;

    #[test]
    fn what_counts_as_committed_ends_where_the_log_does() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path(), false, Arc::new(|_| {})).unwrap();
        let entry = |index| RaftEntry { log_id: codec::log_id(2, index), payload: EntryPayload::Blank };
        let rows = (1..=9).map(|index| (index, codec::encode_entry(&entry(index)))).collect();
        fit::finished(|done| LogDisk::append(&store, rows, done)).unwrap();
        drop(store);
        for (committed, told) in [(16, 9), (9, 9), (4, 4)] {
            let store = LogStore::open(dir.path(), false, Arc::new(|_| {})).unwrap();
            fit::finished(|done| LogDisk::set_mark(&store, COMMITTED, codec::encode_log_id(&codec::log_id(2, committed)), done))
                .unwrap();
            assert_eq!(Log::new(store).unwrap().committed().unwrap(), Some(codec::log_id(2, told)));
        }
    }
}
