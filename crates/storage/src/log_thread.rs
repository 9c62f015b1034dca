//! The one thread that writes the log. It takes everything that has queued up, writes it as one
//! batch, syncs once, and only then says so. A failed write is never retried: after a failed sync
//! nobody knows what is on disk, so every later operation fails too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocksdb::{DB, WriteBatch, WriteOptions};

use crate::failpoint;
use crate::log::{ENTRIES, LogError, MARKS, SyncObserver};

pub(crate) type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Operations written together at most.
const MAX_OPS: usize = 1024;
/// Bytes written together, about.
const MAX_BYTES: usize = 8 << 20;

/// Something to write.
pub(crate) enum Op {
    Append { rows: Vec<(u64, Bytes)>, done: Done },
    Mark { name: &'static str, value: Vec<u8>, done: Option<Done> },
    TruncateFrom { index: u64, done: Done },
    Purge { index: u64, name: &'static str, value: Vec<u8>, done: Done },
}

impl Op {
    fn into_done(self) -> Option<Done> {
        match self {
            Self::Append { done, .. } | Self::TruncateFrom { done, .. } | Self::Purge { done, .. } => Some(done),
            Self::Mark { done, .. } => done,
        }
    }

    pub(crate) fn fail(self, error: &LogError) {
        if let Some(done) = self.into_done() {
            done(Err(error.clone()));
        }
    }

    /// Whether somebody waits for the operation to be durable. A purge may be lost: it is repeated.
    const fn needs_sync(&self) -> bool {
        match self {
            Self::Append { .. } | Self::TruncateFrom { .. } => true,
            Self::Mark { done, .. } => done.is_some(),
            Self::Purge { .. } => false,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Append { rows, .. } => rows.iter().map(|(_, row)| row.len()).sum(),
            _ => 0,
        }
    }
}

/// Since when the log has been waiting for the disk.
#[derive(Debug)]
pub struct LogWaits {
    start: Instant,
    /// Microseconds from `start` to the begin of the write under way; `IDLE` while there is none.
    begun: AtomicU64,
}

const IDLE: u64 = u64::MAX;

impl LogWaits {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), begun: AtomicU64::new(IDLE) }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(IDLE - 1)
    }

    fn begin(&self) {
        self.begun.store(self.micros(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.begun.store(IDLE, Ordering::Relaxed);
    }

    /// How long the write under way has taken so far; zero if there is none.
    #[must_use]
    pub fn so_far(&self) -> Duration {
        match self.begun.load(Ordering::Relaxed) {
            IDLE => Duration::ZERO,
            begun => Duration::from_micros(self.micros().saturating_sub(begun)),
        }
    }
}

pub(crate) struct Writer {
    waits: Arc<LogWaits>,
    db: Arc<DB>,
    synced: WriteOptions,
    unsynced: WriteOptions,
    observer: SyncObserver,
    failed: Option<LogError>,
}

impl Writer {
    pub(crate) fn new(db: Arc<DB>, sync: bool, observer: SyncObserver, waits: Arc<LogWaits>) -> Self {
        let mut synced = WriteOptions::default();
        synced.set_sync(sync);
        Self { waits, db, synced, unsynced: WriteOptions::default(), observer, failed: None }
    }

    pub(crate) fn run(mut self, queue: &mpsc::Receiver<Op>) {
        let mut ops = Vec::new();
        while let Ok(op) = queue.recv() {
            let mut bytes = op.size();
            ops.push(op);
            while ops.len() < MAX_OPS && bytes < MAX_BYTES {
                let Ok(op) = queue.try_recv() else { break };
                bytes += op.size();
                ops.push(op);
            }
            let result = self.write(&ops, bytes);
            for done in ops.drain(..).filter_map(Op::into_done) {
                done(result.clone());
            }
        }
    }

    fn write(&mut self, ops: &[Op], bytes: usize) -> Result<(), LogError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let batch = self.batch(ops);
        let sync = ops.iter().any(Op::needs_sync);
        self.waits.begin();
        failpoint::pass("log-write");
        let begun = Instant::now();
        let written = self.db.write_opt(batch, if sync { &self.synced } else { &self.unsynced });
        failpoint::pass("log-synced");
        self.waits.end();
        if sync {
            (self.observer)(begun.elapsed(), bytes);
        }
        written.map_err(|e| {
            let error = LogError(format!("raft log: a write failed and must not be retried: {e}"));
            tracing::error!(error = %error, "the raft log is closed");
            self.failed = Some(error.clone());
            error
        })
    }

    fn batch(&self, ops: &[Op]) -> WriteBatch {
        let entries = self.db.cf_handle(ENTRIES).expect("opened");
        let marks = self.db.cf_handle(MARKS).expect("opened");
        let mut batch = WriteBatch::default();
        for op in ops {
            match op {
                Op::Append { rows, .. } => {
                    for (index, row) in rows {
                        batch.put_cf(entries, index.to_be_bytes(), row);
                    }
                }
                Op::Mark { name, value, .. } => batch.put_cf(marks, name, value),
                Op::TruncateFrom { index, .. } => {
                    batch.delete_range_cf(entries, index.to_be_bytes(), u64::MAX.to_be_bytes());
                }
                Op::Purge { index, name, value, .. } => {
                    batch.delete_range_cf(entries, 0_u64.to_be_bytes(), (index + 1).to_be_bytes());
                    batch.put_cf(marks, name, value);
                }
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_under_way_is_told_by_its_age_and_none_by_zero() {
        let waits = LogWaits::new();
        assert_eq!(waits.so_far(), Duration::ZERO);
        waits.begin();
        while waits.so_far() < Duration::from_millis(1) {
            std::thread::yield_now();
        }
        waits.end();
        assert_eq!(waits.so_far(), Duration::ZERO);
    }
}
