//! What everybody was shown to be true, and must stay so: which entries are committed, what each revision changed,
//! who led in which term, how long leases live, and what clients and watchers were told. The first violation is kept.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keelson_mvcc::watch::Hub;
use keelson_mvcc::{EventKind, KeyRange, MemoryBackend};
use keelson_state::Applied;
use parking_lot::Mutex;

use super::net::Time;
use crate::apply::Observer;
use crate::lessor::Lessor;

/// Milliseconds that the clocks of two processes may be apart.
const APART: Time = 2;

/// Keys that a revision changed.
pub(super) type Changes = BTreeMap<Bytes, Option<Bytes>>;
/// Revisions in order, each with its changes in order.
pub(super) type Revisions = Vec<(i64, Vec<(Bytes, Option<Bytes>)>)>;

/// A hash over everything that happened, in order: equal for equal seeds.
#[derive(Default)]
pub(super) struct Trace {
    hasher: DefaultHasher,
    steps: u64,
    /// Where every step is written, too, if somebody wants to compare two runs.
    written: Option<BufWriter<File>>,
}

impl Trace {
    pub(super) fn note(&mut self, what: impl Hash + Debug) {
        what.hash(&mut self.hasher);
        self.steps += 1;
        if let Some(file) = &mut self.written {
            writeln!(file, "{what:?}").expect("the trace can be written");
        }
    }

    pub(super) fn write_to(&mut self, path: &str) {
        self.written = Some(BufWriter::new(File::create(path).expect("the trace can be created")));
    }

    pub(super) fn sum(&self) -> (u64, u64) {
        (self.hasher.finish(), self.steps)
    }
}

/// What clients know of a lease, and what became of it. No two are of one id.
#[derive(Debug, Default)]
struct Lease {
    /// When a client was told that it was granted.
    known: Option<Time>,
    /// Clients were told that it lives until then, at least.
    until: Time,
    /// A client has asked for its end.
    given_up: bool,
    /// When somebody first saw that it had ended though nobody had asked for that.
    ended: Option<Time>,
}

#[derive(Default)]
pub(super) struct Truth {
    /// Milliseconds since the world began.
    pub(super) now: Time,
    pub(super) trace: Trace,
    leases: BTreeMap<i64, Lease>,
    leaders: BTreeMap<u64, u64>,
    committed: BTreeMap<u64, Bytes>,
    revisions: BTreeMap<i64, Changes>,
    by_key: BTreeMap<Bytes, BTreeMap<i64, Option<Bytes>>>,
    written: BTreeMap<Bytes, i64>,
    hashes: BTreeMap<(i64, i64), (u64, u32)>,
    /// Newest revision that any client was told of.
    pub(super) told: i64,
    pub(super) broken: Option<String>,
    pub(super) acknowledged: u64,
    pub(super) reads: u64,
    pub(super) renewals: u64,
    pub(super) expiries: u64,
    /// Revisions that watchers were told of.
    pub(super) events: u64,
}

pub(super) type Shared = Arc<Mutex<Truth>>;

impl Truth {
    pub(super) fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// There is one leader in a term.
    pub(super) fn leads(&mut self, member: u64, term: u64) {
        let first = *self.leaders.entry(term).or_insert(member);
        if first != member {
            self.breaks(format!("members {first} and {member} both lead in term {term}"));
        }
    }

    pub(super) fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// What was committed stays, and is the same everywhere.
    pub(super) fn committed(&mut self, member: u64, index: u64, row: Bytes) {
        if let Some(known) = self.committed.get(&index) {
            if *known != row {
                self.breaks(format!("member {member} has applied another entry {index} than others"));
            }
        } else {
            self.committed.insert(index, row);
        }
    }

    /// A revision is the same everywhere, and its values are written once.
    fn revision(&mut self, member: u64, revision: i64, changes: Changes) {
        if let Some(known) = self.revisions.get(&revision) {
            if *known != changes {
                self.breaks(format!("revision {revision} is {changes:?} on member {member}, and was {known:?}"));
            }
            return;
        }
        for (key, value) in &changes {
            self.by_key.entry(key.clone()).or_default().insert(revision, value.clone());
            if let Some(value) = value
                && let Some(first) = self.written.insert(value.clone(), revision)
            {
                self.breaks(format!("{value:?} was written at {first} and again at {revision}"));
            }
        }
        self.trace.note((revision, &changes));
        self.revisions.insert(revision, changes);
    }

    pub(super) fn changes(&self, revision: i64) -> Option<&Changes> {
        self.revisions.get(&revision)
    }

    /// What changed in a range from one revision on, before another.
    pub(super) fn concerning(&self, range: &KeyRange, from: i64, before: i64) -> Revisions {
        let mut found = Revisions::new();
        for (revision, changes) in self.revisions.range(from..before.max(from)) {
            let concerned = changes.iter().filter(|(key, _)| range.contains(key));
            let concerned: Vec<_> = concerned.map(|(key, value)| (key.clone(), value.clone())).collect();
            if !concerned.is_empty() {
                found.push((*revision, concerned));
            }
        }
        found
    }

    /// The state at a revision.
    pub(super) fn state(&self, revision: i64) -> BTreeMap<Bytes, Bytes> {
        let at = |changes: &BTreeMap<i64, Option<Bytes>>| changes.range(..=revision).next_back().and_then(|(_, v)| v.clone());
        self.by_key.iter().filter_map(|(key, changes)| Some((key.clone(), at(changes)?))).collect()
    }

    /// Equal history, equal hash.
    pub(super) fn hash(&mut self, member: u64, revision: i64, compacted: i64, hash: u32) {
        let (first, known) = *self.hashes.entry((revision, compacted)).or_insert((member, hash));
        if known != hash {
            self.breaks(format!("members {first} and {member} hash revision {revision} differently"));
        }
    }

    /// A client is told of a revision. What it asked for was asked for after `floor` had been told to somebody.
    pub(super) fn tells(&mut self, what: &str, floor: i64, revision: i64, changed: bool) {
        if revision < floor || (changed && revision == floor) {
            self.breaks(format!("{what} was answered with revision {revision} after {floor} had been told"));
        }
        self.told = self.told.max(revision);
        self.trace.note((what, revision));
    }

    /// A client that asked at some time is told that a lease was granted, or renewed, for so many seconds.
    pub(super) fn lives(&mut self, id: i64, asked: Time, ttl: i64) {
        let now = self.now;
        let lease = self.leases.entry(id).or_default();
        lease.known.get_or_insert(now);
        lease.until = lease.until.max(asked + 1000 * u64::try_from(ttl).unwrap_or(0));
        self.trace.note(("lease lives", id, ttl));
        self.check_lease(id);
    }

    /// A client that asked at some time is told that there is no such lease.
    pub(super) fn is_gone(&mut self, id: i64, asked: Time) {
        let lease = self.leases.entry(id).or_default();
        if lease.known.is_some_and(|known| known <= asked) && !lease.given_up && lease.ended.is_none() {
            self.breaks(format!("a client was told that lease {id} is gone, which lives"));
        }
    }

    /// A client asks for the end of a lease.
    pub(super) fn give_up(&mut self, id: i64) {
        self.leases.entry(id).or_default().given_up = true;
    }

    /// A member has applied the end of a lease.
    fn ends(&mut self, id: i64) {
        let now = self.now;
        let lease = self.leases.entry(id).or_default();
        if lease.given_up || lease.ended.is_some() {
            return;
        }
        lease.ended = Some(now);
        self.expiries += 1;
        self.trace.note(("lease ended", id));
        self.check_lease(id);
    }

    /// Nothing ends a lease while somebody may count on it.
    fn check_lease(&mut self, id: i64) {
        let ended_early = |lease: &&Lease| lease.ended.is_some_and(|ended| ended + APART < lease.until);
        if let Some(lease) = self.leases.get(&id).filter(ended_early) {
            let text = format!("lease {id} has ended too early: {lease:?}");
            self.breaks(text);
        }
    }
}

/// Sees what one run of one member applies.
pub(super) struct Witness {
    member: u64,
    truth: Shared,
    lessor: Arc<Lessor>,
    hub: Hub<MemoryBackend>,
    last: AtomicI64,
}

impl Witness {
    pub(super) fn new(member: u64, truth: Shared, lessor: Arc<Lessor>, hub: Hub<MemoryBackend>) -> Self {
        let last = AtomicI64::new(hub.store().revision());
        Self { member, truth, lessor, hub, last }
    }
}

impl Observer for Witness {
    fn applied(&self, applied: Applied, _: Duration) {
        let mut truth = self.truth.lock();
        for transaction in &applied.transactions {
            let before = self.last.swap(transaction.revision, Ordering::Relaxed);
            if transaction.revision != before + 1 {
                let revision = transaction.revision;
                truth.breaks(format!("member {} goes from revision {before} to {revision}", self.member));
            }
            let changes = transaction.events.iter().map(|e| {
                let value = (e.kind == EventKind::Put).then(|| e.kv.value.clone());
                (e.kv.key.clone(), value)
            });
            truth.revision(self.member, transaction.revision, changes.collect());
        }
        for id in applied.revoked {
            self.lessor.revoked(id);
            truth.ends(id);
        }
        for (id, ttl) in applied.granted {
            self.lessor.granted(id, ttl, 0);
        }
        self.hub.publish(applied.transactions.into_iter().map(|t| (t.revision, t.events)));
    }
}
