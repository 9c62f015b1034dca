//! Where the apply path meets the watchers: it publishes transactions, a dispatch thread marks the
//! watchers they concern, and each stream fetches for its marked watchers when it can send.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use keelson_api::Revision;
use keelson_api::mvccpb::KeyValue;
use parking_lot::{Mutex, RwLock};

use super::groups::Groups;
use super::ring::{Ring, RingEvent, RingTransaction};
use crate::backend::{Backend, Cursor, ReadMode, Table};
use crate::key::{KeyRange, revision_key, split_revision_key};
use crate::read::{Query, ReadError, damaged_key};
use crate::row;
use crate::store::Store;
use crate::write::{Event, EventKind};

/// Up to so many watchers are marked where a transaction is published; more by the dispatch thread.
const INLINE_WATCHERS: usize = 256;
/// A replay from the history ends with the revision that brings its events to so many bytes. About one
/// response is made of it: what does not go out with that would be read again for the next.
const REPLAY_BYTES: usize = 1 << 20;

/// How a stream is told that some of its watchers have something to fetch.
pub trait Wake: Send + Sync + 'static {
    /// Called on the dispatch thread: it must not block.
    fn wake(&self);
}

/// One watcher as the dispatcher sees it.
pub(super) struct Watcher {
    pub(super) range: KeyRange,
    id: i64,
    /// Earliest revision that may concern it and was not fetched, 0 for none.
    dirty: AtomicI64,
    stream: Arc<StreamMarks>,
}

/// Which watchers of one stream have something to fetch.
struct StreamMarks {
    ready: Mutex<BTreeSet<i64>>,
    wake: Box<dyn Wake>,
}

impl Watcher {
    fn mark(&self, revision: i64) {
        let marked = self.dirty.fetch_update(Ordering::AcqRel, Ordering::Acquire, |dirty| match dirty {
            0 => Some(revision),
            d if revision < d => Some(revision),
            _ => None,
        });
        if marked == Ok(0) {
            self.stream.ready.lock().insert(self.id);
            self.stream.wake.wake();
        }
    }
}

/// What to do once a revision has been dispatched.
type Call = Box<dyn FnOnce() + Send>;

struct Shared<B> {
    store: Store<B>,
    ring: RwLock<Ring>,
    groups: RwLock<Groups>,
    /// All watchers have been marked for revisions up to this one.
    dispatched: AtomicI64,
    /// Batches on their way to the dispatch thread.
    queued: AtomicUsize,
    waiting: Mutex<Vec<(i64, Call)>>,
}

impl<B> Shared<B> {
    /// Marks the watchers that a run of transactions concerns.
    fn dispatch(&self, transactions: &[Arc<RingTransaction>]) {
        let groups = self.groups.read();
        if groups.len() > 0 {
            for transaction in transactions {
                for event in &transaction.events {
                    groups.for_each(&event.event.kv.key, |watcher| watcher.mark(transaction.revision));
                }
            }
        }
        drop(groups);
        if let Some(last) = transactions.last() {
            self.dispatched.store(last.revision, Ordering::Release);
        }
        self.release_waiting();
    }

    fn release_waiting(&self) {
        let dispatched = self.dispatched.load(Ordering::Acquire);
        let due: Vec<_> = self.waiting.lock().extract_if(.., |(revision, _)| *revision <= dispatched).collect();
        for (_, then) in due {
            then();
        }
    }
}

/// The meeting point; clones share it.
pub struct Hub<B> {
    dispatch: Arc<Dispatch>,
    // Let go of after the thread has ended, which has it too.
    shared: Arc<Shared<B>>,
}

/// The thread that marks watchers. It ends with the last handle, and not later: it must not be what
/// closes the store while the process ends.
struct Dispatch {
    queue: Option<mpsc::Sender<Vec<Arc<RingTransaction>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its panic message already.
            let _ = thread.join();
        }
    }
}

impl<B> Clone for Hub<B> {
    fn clone(&self) -> Self {
        Self { dispatch: self.dispatch.clone(), shared: self.shared.clone() }
    }
}

/// The watchers of one stream.
pub struct Subscription<B: Backend> {
    hub: Hub<B>,
    marks: Arc<StreamMarks>,
    watchers: std::collections::HashMap<i64, Arc<Watcher>>,
}

/// What there is for a watcher from some revision on.
pub enum Replay {
    /// Whole transactions in order, and the revision from which to go on; every revision before
    /// that one was looked at. `more` if that is not the end yet.
    Transactions {
        /// Transactions that may hold matching events.
        transactions: Vec<Arc<RingTransaction>>,
        /// Next revision to look at.
        next: i64,
        /// There may be more right now.
        more: bool,
    },
    /// The ring no longer reaches back that far: call [`Hub::replay_history`] off the async threads.
    OutsideRing,
}

impl<B: Backend> Hub<B> {
    /// Starts the dispatch thread.
    pub fn start(store: Store<B>) -> std::io::Result<Self> {
        let revision = store.revision();
        let shared = Arc::new(Shared {
            store,
            ring: RwLock::new(Ring::new(revision)),
            groups: RwLock::default(),
            dispatched: AtomicI64::new(revision),
            queued: AtomicUsize::new(0),
            waiting: Mutex::default(),
        });
        let (queue, published) = mpsc::channel::<Vec<Arc<RingTransaction>>>();
        let dispatcher = shared.clone();
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            while let Ok(transactions) = published.recv() {
                dispatcher.dispatch(&transactions);
                dispatcher.queued.fetch_sub(1, Ordering::AcqRel);
            }
        })?;
        let dispatch = Arc::new(Dispatch { queue: Some(queue), thread: Some(thread) });
        Ok(Self { dispatch, shared })
    }

    /// Publishes transactions that have become readable. Called on the apply thread, in order.
    pub fn publish(&self, transactions: impl Iterator<Item = (i64, Vec<Event>)>) {
        let transactions: Vec<_> = transactions
            .map(|(revision, events)| {
                Arc::new(RingTransaction { revision, events: events.into_iter().map(RingEvent::new).collect() })
            })
            .collect();
        if transactions.is_empty() {
            return;
        }
        let mut ring = self.shared.ring.write();
        transactions.iter().for_each(|t| ring.push(t.clone()));
        drop(ring);
        // Waking the thread costs more than marking a few watchers. Order matters: a watcher marked
        // for a newer revision first would skip the older one, so the queue must be empty.
        let few = self.shared.groups.read().len() <= INLINE_WATCHERS;
        if few && self.shared.queued.load(Ordering::Acquire) == 0 {
            return self.shared.dispatch(&transactions);
        }
        self.shared.queued.fetch_add(1, Ordering::AcqRel);
        // The thread lives as long as this handle.
        if let Some(queue) = &self.dispatch.queue {
            let _ = queue.send(transactions);
        }
    }

    /// Number of watchers.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.shared.groups.read().len()
    }

    /// Opens a stream's set of watchers.
    #[must_use]
    pub fn subscribe(&self, wake: impl Wake) -> Subscription<B> {
        let marks = Arc::new(StreamMarks { ready: Mutex::default(), wake: Box::new(wake) });
        Subscription { hub: self.clone(), marks, watchers: std::collections::HashMap::new() }
    }

    /// Runs `then` once every watcher has been marked for all revisions up to `revision`.
    pub fn when_dispatched(&self, revision: i64, then: impl FnOnce() + Send + 'static) {
        if self.shared.dispatched.load(Ordering::Acquire) >= revision {
            return then();
        }
        self.shared.waiting.lock().push((revision, Box::new(then)));
        // The dispatcher may have got there between the look and the push.
        self.shared.release_waiting();
    }

    /// Fetches from the ring.
    #[must_use]
    pub fn replay(&self, from: i64, limit: usize) -> Replay {
        let head = self.shared.store.revision();
        match self.shared.ring.read().from(from, limit) {
            None if from > head => Replay::Transactions { transactions: Vec::new(), next: from, more: false },
            None => Replay::OutsideRing,
            Some(transactions) => {
                let more = transactions.len() == limit;
                let last = transactions.last().map_or(from - 1, |t| t.revision);
                // Every revision has a transaction here, so nothing lies between.
                Replay::Transactions { transactions, next: (last + 1).max(from), more }
            }
        }
    }

    /// Fetches up to `limit` transactions with events of `range` from the history, or [`REPLAY_BYTES`] of
    /// them, looking at up to ten times as many. Reads the disk: call it off the async threads.
    pub fn replay_history(&self, range: &KeyRange, from: i64, limit: usize) -> Result<Replay, ReadError> {
        let store = &self.shared.store;
        let head = store.revision();
        let mut transactions: Vec<Arc<RingTransaction>> = Vec::new();
        let mut next = from;
        let mut events = Vec::new();
        let mut cursor = store.backend().cursor(Table::Revisions, Some(&revision_key(head + 1, 0)));
        cursor.seek(&revision_key(from, 0))?;
        let (mut looked_at, mut bytes) = (0, 0);
        let mut more = false;
        if from < store.compacted() {
            return Err(ReadError::Compacted);
        }
        while let Some((raw, value)) = cursor.row() {
            let (main, sub) = split_revision_key(raw).ok_or_else(|| damaged_key("revisions"))?;
            if main != next {
                finish(&mut transactions, &mut events, next);
                next = main;
                if transactions.len() >= limit || looked_at >= limit * 10 || bytes >= REPLAY_BYTES {
                    more = true;
                    break;
                }
            }
            looked_at += 1;
            let change = row::decode_change(value)?;
            if range.contains(&change.key)
                && let Some(event) = self.event(change, Revision::new(main, sub))?
            {
                bytes += event.weight();
                events.push(event);
            }
            cursor.step()?;
        }
        if !more {
            finish(&mut transactions, &mut events, next);
            next = head + 1;
        }
        // Removal may have overtaken the replay.
        if from < store.compacted() {
            return Err(ReadError::Compacted);
        }
        Ok(Replay::Transactions { transactions, next, more })
    }

    fn event(&self, change: row::Change, Revision { main, sub }: Revision) -> Result<Option<RingEvent>, ReadError> {
        let row::Change { is_put, key, previous, .. } = change;
        let event = if is_put {
            let Some(kv) = self.shared.store.version(&key, Revision::new(main, sub), ReadMode::Blocking)? else {
                return Ok(None);
            };
            Event { kind: EventKind::Put, kv, previous, previous_lease: 0 }
        } else {
            let kv = KeyValue { key, mod_revision: main, ..KeyValue::default() };
            Event { kind: EventKind::Delete, kv, previous, previous_lease: 0 }
        };
        Ok(Some(RingEvent::new(event)))
    }

    /// The version that `event` replaced, if it is still there.
    pub fn previous(&self, event: &Event, mode: ReadMode) -> Result<Option<KeyValue>, ReadError> {
        let store = &self.shared.store;
        let key: &Bytes = &event.kv.key;
        let before = event.kv.mod_revision - 1;
        let previous = match event.previous {
            None => None,
            Some(at) if at.main <= before => store.version(key, at, mode)?,
            // Replaced within one transaction: what counts is the version before all of it.
            Some(_) => {
                let range = KeyRange::One(key.to_vec());
                let query = Query { range, revision: before, limit: 1, keys_only: false, count_only: false, count: false };
                match store.range(&query, mode) {
                    Ok(found) => found.kvs.into_iter().next(),
                    Err(ReadError::Compacted) => None,
                    Err(e) => return Err(e),
                }
            }
        };
        Ok(previous)
    }

    /// The store that is watched.
    #[must_use]
    pub fn store(&self) -> &Store<B> {
        &self.shared.store
    }
}

impl<B: Backend> Subscription<B> {
    /// Starts watching `range` for revisions from `from` on, under an id of the caller's choice.
    pub fn add(&mut self, id: i64, range: KeyRange, from: i64) {
        let watcher = Arc::new(Watcher { range, id, dirty: AtomicI64::new(0), stream: self.marks.clone() });
        self.hub.shared.groups.write().add(watcher.clone());
        // Registered first, so that nothing published from here on is missed.
        if from <= self.hub.shared.store.revision() {
            watcher.mark(from);
        }
        self.watchers.insert(id, watcher);
    }

    /// Stops watching; false if the id is not in use.
    pub fn remove(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else { return false };
        self.hub.shared.groups.write().remove(&watcher);
        self.marks.ready.lock().remove(&id);
        true
    }

    /// Takes one watcher that has something to fetch, and from which revision on. A watcher that
    /// is not read to the end must be given back with [`Self::mark`].
    #[must_use]
    pub fn take_ready(&mut self) -> Option<(i64, i64)> {
        loop {
            let id = self.marks.ready.lock().pop_first()?;
            if let Some(watcher) = self.watchers.get(&id) {
                return Some((id, watcher.dirty.swap(0, Ordering::AcqRel)));
            }
        }
    }

    /// Whether some watcher has something to fetch at or below `revision`.
    #[must_use]
    pub fn lags(&self, revision: i64) -> bool {
        let behind = |w: &Arc<Watcher>| (1..=revision).contains(&w.dirty.load(Ordering::Acquire));
        self.marks.ready.lock().iter().filter_map(|id| self.watchers.get(id)).any(behind)
    }

    /// Notes that a watcher has something to fetch from `revision` on.
    pub fn mark(&self, id: i64, revision: i64) {
        if let Some(watcher) = self.watchers.get(&id) {
            watcher.mark(revision);
        }
    }

    /// The hub.
    #[must_use]
    pub const fn hub(&self) -> &Hub<B> {
        &self.hub
    }
}

impl<B: Backend> Drop for Subscription<B> {
    fn drop(&mut self) {
        let mut groups = self.hub.shared.groups.write();
        for watcher in self.watchers.values() {
            groups.remove(watcher);
        }
    }
}

fn finish(transactions: &mut Vec<Arc<RingTransaction>>, events: &mut Vec<RingEvent>, revision: i64) {
    if !events.is_empty() {
        transactions.push(Arc::new(RingTransaction { revision, events: std::mem::take(events) }));
    }
}
