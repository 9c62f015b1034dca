//! A disk that takes its time, fails, and loses in a crash what was not synced: what was written may be kept in part, always
//! from its beginning, since a log is written in order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_storage::{LogBounds, LogError};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

use crate::disk::{Done, LogDisk};

/// Microseconds that a write and a sync take when nothing is wrong, at most.
const WRITE: u64 = 300;
const SYNC: u64 = 3000;
/// What a failed disk says.
pub(super) const FAILED: &str = "the simulated disk has failed";

#[derive(Clone, Debug, Default)]
struct Rows {
    entries: BTreeMap<u64, Bytes>,
    marks: BTreeMap<&'static str, Vec<u8>>,
}

#[derive(Debug)]
enum Op {
    Append(Vec<(u64, Bytes)>),
    Mark(&'static str, Vec<u8>),
    TruncateFrom(u64),
    Purge(u64, &'static str, Vec<u8>),
}

impl Op {
    fn apply(&self, rows: &mut Rows) {
        match self {
            Self::Append(entries) => rows.entries.extend(entries.iter().cloned()),
            Self::Mark(name, value) => drop(rows.marks.insert(name, value.clone())),
            Self::TruncateFrom(index) => drop(rows.entries.split_off(index)),
            Self::Purge(index, name, value) => {
                rows.entries = rows.entries.split_off(&(index + 1));
                rows.marks.insert(name, value.clone());
            }
        }
    }

    const fn needs_sync(&self) -> bool {
        matches!(self, Self::Append(_) | Self::Mark(..) | Self::TruncateFrom(_))
    }
}

#[derive(Default)]
struct Inner {
    /// What a power cut leaves for certain.
    durable: Rows,
    /// Written since, in order.
    unsynced: Vec<Op>,
    /// What is read: `durable` with `unsynced`.
    written: Rows,
    queue: VecDeque<(Op, Done)>,
    /// Marks that go to disk with whatever is written next, which may be older than they are.
    lazy: BTreeMap<&'static str, Vec<u8>>,
    /// Syncs take so much longer.
    stall: Duration,
    /// Nobody serves the queue: everything is done on the spot.
    at_once: bool,
    /// It says that everything is durable, and syncs nothing: to see that this is found out.
    lies: bool,
    /// The next sync fails, and everything after it.
    fails: bool,
    /// That has come to pass.
    has_failed: bool,
}

impl Inner {
    /// Whether these operations fail: then nobody knows what of them is on disk.
    fn fail(&mut self, ops: &[(Op, Done)]) -> bool {
        self.has_failed |= self.fails && ops.iter().any(|(op, _)| op.needs_sync());
        self.has_failed
    }
}

/// One member's log disk; clones share it. It outlives the member's process.
#[derive(Clone)]
pub(super) struct SimDisk {
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
}

impl SimDisk {
    pub(super) fn new(lies: bool) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { at_once: true, lies, ..Inner::default() })), wake: Arc::default() }
    }

    /// From now on operations wait for [`SimDisk::serve`].
    pub(super) fn begin(&self) {
        self.inner.lock().at_once = false;
    }

    /// Does what is asked for, as the log thread does it: some operations at a time.
    pub(super) async fn serve(self, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed);
        loop {
            let ops: Vec<_> = {
                let queue = &mut self.inner.lock().queue;
                let some = if queue.is_empty() { 0 } else { rng.random_range(1..=queue.len()) };
                queue.drain(..some).collect()
            };
            if ops.is_empty() {
                self.wake.notified().await;
                continue;
            }
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..WRITE))).await;
            if self.inner.lock().fail(&ops) {
                for (op, done) in ops {
                    self.inner.lock().unsynced.push(op);
                    done(Err(LogError(FAILED.into())));
                }
                continue;
            }
            let mut dones = Vec::new();
            let mut needs_sync = false;
            let stall = {
                let inner = &mut *self.inner.lock();
                let marks = std::mem::take(&mut inner.lazy).into_iter().map(|(name, value)| (Op::Mark(name, value), None));
                for (op, done) in marks.chain(ops.into_iter().map(|(op, done)| (op, Some(done)))) {
                    needs_sync |= done.is_some() && op.needs_sync() && !inner.lies;
                    op.apply(&mut inner.written);
                    inner.unsynced.push(op);
                    dones.extend(done);
                }
                inner.stall
            };
            if needs_sync {
                tokio::time::sleep(Duration::from_micros(rng.random_range(0..SYNC)) + stall).await;
                let inner = &mut *self.inner.lock();
                inner.unsynced.drain(..).for_each(|op| op.apply(&mut inner.durable));
            }
            dones.into_iter().for_each(|done| done(Ok(())));
        }
    }

    pub(super) fn stall(&self, more: Duration) {
        self.inner.lock().stall = more;
    }

    /// Lets the next sync fail. Who is told of that must write no more, and end.
    pub(super) fn fail_next(&self) {
        self.inner.lock().fails = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.inner.lock().has_failed
    }

    /// The process is gone. A power cut also takes of what was written all from some point on.
    pub(super) fn crash(&self, rng: &mut SmallRng, power: bool) {
        let queue = {
            let inner = &mut *self.inner.lock();
            let kept = if power { rng.random_range(0..=inner.unsynced.len()) } else { inner.unsynced.len() };
            inner.unsynced.drain(..).take(kept).for_each(|op| op.apply(&mut inner.durable));
            inner.written = inner.durable.clone();
            inner.at_once = true;
            inner.stall = Duration::ZERO;
            (inner.fails, inner.has_failed) = (false, false);
            inner.lazy.clear();
            std::mem::take(&mut inner.queue)
        };
        // Whoever waited is gone, too.
        drop(queue);
    }

    fn push(&self, op: Op, done: Done) {
        {
            let inner = &mut *self.inner.lock();
            if !inner.at_once {
                inner.queue.push_back((op, done));
                self.wake.notify_one();
                return;
            }
            op.apply(&mut inner.written);
            op.apply(&mut inner.durable);
        }
        done(Ok(()));
    }
}

impl LogDisk for SimDisk {
    fn bounds(&self) -> LogBounds {
        let inner = self.inner.lock();
        let entries = &inner.written.entries;
        LogBounds { first: entries.keys().next().copied(), last: entries.keys().next_back().copied() }
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, LogError> {
        let inner = self.inner.lock();
        let mut bytes = 0;
        let fits = |(_, row): &(&u64, &Bytes)| {
            let before = bytes;
            bytes += row.len();
            before <= max_bytes
        };
        Ok(inner.written.entries.range(range).take_while(fits).map(|(i, row)| (*i, row.clone())).collect())
    }

    fn mark(&self, name: &str) -> Option<Vec<u8>> {
        self.inner.lock().written.marks.get(name).cloned()
    }

    fn append(&self, rows: Vec<(u64, Bytes)>, done: Done) {
        self.push(Op::Append(rows), done);
    }

    /// This disk takes its time for everything.
    fn write_at_once(&self, _: bool) {}

    fn set_mark(&self, name: &'static str, value: Vec<u8>, done: Done) {
        self.push(Op::Mark(name, value), done);
    }

    fn set_mark_lazily(&self, name: &'static str, value: Vec<u8>) {
        self.inner.lock().lazy.insert(name, value);
    }

    fn truncate_from(&self, index: u64, done: Done) {
        self.push(Op::TruncateFrom(index), done);
    }

    fn purge(&self, index: u64, name: &'static str, value: Vec<u8>, done: Done) {
        self.push(Op::Purge(index, name, value), done);
    }
}
