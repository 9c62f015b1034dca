//! What everybody was shown to be true, and must stay so: which entries are committed, what each revision changed,
//! who led in which term, and what clients were told. The first violation is kept.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keelson_mvcc::EventKind;
use keelson_state::Applied;
use parking_lot::Mutex;

use crate::apply::Observer;

/// Keys that a revision changed.
pub(super) type Changes = BTreeMap<Bytes, Option<Bytes>>;

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

#[derive(Default)]
pub(super) struct Truth {
    pub(super) trace: Trace,
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
}

/// Sees what one run of one member applies.
pub(super) struct Witness {
    member: u64,
    truth: Shared,
    last: AtomicI64,
}

impl Witness {
    pub(super) fn new(member: u64, truth: Shared, revision: i64) -> Self {
        Self { member, truth, last: AtomicI64::new(revision) }
    }
}

impl Observer for Witness {
    fn applied(&self, applied: Applied, _: Duration) {
        let mut truth = self.truth.lock();
        for transaction in applied.transactions {
            let before = self.last.swap(transaction.revision, Ordering::Relaxed);
            if transaction.revision != before + 1 {
                let revision = transaction.revision;
                truth.breaks(format!("member {} goes from revision {before} to {revision}", self.member));
            }
            let changes = transaction.events.into_iter().map(|e| {
                let value = (e.kind == EventKind::Put).then_some(e.kv.value);
                (e.kv.key, value)
            });
            truth.revision(self.member, transaction.revision, changes.collect());
        }
    }
}
