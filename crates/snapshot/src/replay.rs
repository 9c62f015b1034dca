//! What happened after a snapshot, brought into what is restored of it. Revisions must follow one another, and every version the
//! one before it: a change that is missing is an error, never a state that there was not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use keelson_api::Revision;
use keelson_api::mvccpb::event::EventType;
use keelson_mvcc::{Backend, Import, hash_rows};

use crate::backup::{HashKv, Segment, Transaction};
use crate::{RowError, SnapshotError};

/// Seconds that a lease gets of which nobody knows how long it lived: it was gone before anybody could ask, so what hangs
/// on it is to go soon.
const UNKNOWN_TTL: i64 = 60;

/// Segments of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Files, in their order. They may overlap.
    pub segments: Vec<PathBuf>,
    /// The last revision that is wanted; 0 for that of the snapshot.
    pub until: i64,
    /// What keelson told of its keys at some revisions.
    pub hashes: Vec<HashKv>,
}

/// Id, granted time to live, and what is left of it.
type Leases = Vec<(i64, i64, i64)>;

fn damaged<T>(what: String) -> Result<T, RowError> {
    Err(RowError::Damaged(what))
}

impl Replay {
    /// Goes on from revision `base`; answers where it ends, and how many changes there were.
    pub(crate) fn run<B: Backend>(
        &self,
        import: &mut Import<'_, B>,
        base: i64,
        leases: &mut Leases,
    ) -> Result<(i64, u64), RowError> {
        let until = if self.until == 0 { base } else { self.until };
        let (mut last, mut changes) = (base, 0);
        let (mut told, mut attached) = (BTreeMap::new(), BTreeSet::new());
        for path in &self.segments {
            let bytes = fs::read(path).map_err(|e| RowError::Read(e.into()))?;
            let segment = Segment::from_bytes(&bytes).map_err(|why| RowError::Damaged(format!("a segment of its log: {why}")))?;
            told.extend(segment.leases.iter().map(|lease| (lease.id, lease.ttl)));
            let new = segment.transactions.iter().filter(|t| t.revision > base && t.revision <= until);
            for transaction in new {
                if transaction.revision <= last {
                    continue;
                }
                if transaction.revision - 1 != last {
                    return damaged(format!("revision {} is missing from its log", last + 1));
                }
                apply(import, transaction, &mut attached)?;
                last = transaction.revision;
                changes += transaction.events.len() as u64;
            }
        }
        if last != until {
            return damaged(format!("with its log it ends at revision {last}, and {until} is wanted"));
        }
        let known: BTreeSet<i64> = leases.iter().map(|(id, ..)| *id).collect();
        leases.extend(attached.difference(&known).map(|id| {
            let ttl = told.get(id).copied().filter(|ttl| *ttl > 0).unwrap_or(UNKNOWN_TTL);
            (*id, ttl, 0)
        }));
        leases.sort_unstable();
        Ok((last, changes))
    }
}

fn apply<B: Backend>(
    import: &mut Import<'_, B>,
    transaction: &Transaction,
    attached: &mut BTreeSet<i64>,
) -> Result<(), RowError> {
    for (sub, event) in (0..).zip(&transaction.events) {
        let at = Revision::new(transaction.revision, sub);
        let Some(kv) = event.kv.as_ref().filter(|kv| !kv.key.is_empty()) else {
            return damaged(format!("a change at revision {} has no key", transaction.revision));
        };
        if event.r#type() == EventType::Delete {
            import.delete_next(at, &kv.key)?;
        } else {
            import.put_next(at, kv)?;
            attached.extend((kv.lease != 0).then_some(kv.lease));
        }
    }
    Ok(())
}

/// Holds what has been restored against what keelson told while it was in use; how many such sums there were. `compacted` and
/// `revision` are what the restored state begins and ends with.
pub fn compare<B: Backend>(backend: &B, hashes: &[HashKv], compacted: i64, revision: i64) -> Result<usize, SnapshotError> {
    let comparable = |told: &&HashKv| told.revision <= revision && told.compacted >= compacted;
    let mut compared = 0;
    for told in hashes.iter().filter(comparable) {
        let found = hash_rows(backend, told.compacted, told.revision)?;
        if found != told.hash {
            return Err(SnapshotError::OtherKeys { revision: told.revision, told: told.hash, found });
        }
        compared += 1;
    }
    Ok(compared)
}
