//! What the clients asked for and what they were told, from one audit to the next. A write is
//! unknown until it is answered, so a client that dies with the server leaves the right note.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::hashes::Hashes;

/// Keys changed by one revision, with the write that each new value comes from; `None` deletes.
pub type Changes = BTreeMap<Bytes, Option<u64>>;

/// What a write does if this is the way it is carried out. A delete may find nothing.
#[derive(Clone, Debug, Default)]
pub struct Branch {
    pub puts: Vec<(Bytes, u64)>,
    pub deletes: Vec<Bytes>,
}

impl Branch {
    pub fn can_be(&self, changes: &Changes) -> bool {
        let puts: Changes = self.puts.iter().map(|(key, id)| (key.clone(), Some(*id))).collect();
        let (put, deleted): (Changes, Changes) = changes.clone().into_iter().partition(|(_, id)| id.is_some());
        put == puts && deleted.keys().all(|key| self.deletes.contains(key))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Unknown,
    Failed,
    Acknowledged { revision: i64, changes: Changes },
}

#[derive(Clone, Debug)]
pub struct Write {
    /// Newest revision anybody had been told of when the write was sent.
    pub floor: i64,
    pub branches: Vec<Branch>,
    pub outcome: Outcome,
}

/// What is known of a lease between two audits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    MaybeGranted,
    Granted,
    MaybeRevoked,
    Revoked,
}

/// How much was done, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    pub acknowledged: usize,
    pub failed: usize,
    pub unknown: usize,
    pub unknown_kept: usize,
    pub compactions: usize,
    pub watched: usize,
    pub hashes: usize,
}

#[derive(Debug, Default)]
pub struct History {
    pub writes: Vec<Write>,
    pub leases: BTreeMap<i64, Lease>,
    /// Leases that a client may take to revoke, with all keys attached to them.
    pub revocable: BTreeMap<i64, Vec<Bytes>>,
    /// Newest revision anybody was told of, in whatever answer.
    pub newest_told: i64,
    /// Newest compaction that was acknowledged, and newest that was asked for.
    pub compacted: i64,
    pub compaction_asked: i64,
    /// Compactions stay below what has been audited, so that no change is gone before it was seen.
    pub compaction_limit: i64,
    pub hashes: Hashes,
    pub mix: Mix,
    /// Promises that were broken already while the clients were writing.
    pub broken: Vec<String>,
    next_id: u64,
    told_at: HashMap<i64, usize>,
}

impl History {
    /// A number that no other value or lease of this run has.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn begin(&mut self, branches: Vec<Branch>) -> usize {
        self.writes.push(Write { floor: self.newest_told, branches, outcome: Outcome::Unknown });
        self.writes.len() - 1
    }

    pub fn told(&mut self, revision: i64) {
        self.newest_told = self.newest_told.max(revision);
    }

    pub fn acknowledged(&mut self, write: usize, revision: i64, changes: Changes) {
        let floor = self.writes[write].floor;
        // Without a change there is no revision of its own, only the newest one.
        if revision < floor || (revision == floor && !changes.is_empty()) {
            self.broken.push(format!("a write sent after revision {floor} was told got revision {revision}: {changes:?}"));
        }
        if !changes.is_empty()
            && let Some(other) = self.told_at.insert(revision, write)
        {
            self.broken
                .push(format!("revision {revision} was acknowledged to two writes: {:?} and {changes:?}", self.writes[other]));
        }
        self.told(revision);
        self.writes[write].outcome = Outcome::Acknowledged { revision, changes };
    }

    pub fn failed(&mut self, write: usize) {
        self.writes[write].outcome = Outcome::Failed;
    }

    /// Counts and forgets the writes: the audit has decided on each of them.
    pub fn close(&mut self) {
        for write in self.writes.drain(..) {
            match write.outcome {
                Outcome::Acknowledged { .. } => self.mix.acknowledged += 1,
                Outcome::Failed => self.mix.failed += 1,
                Outcome::Unknown => self.mix.unknown += 1,
            }
        }
        self.told_at.clear();
    }
}
