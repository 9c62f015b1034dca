//! Checksums at past compactions. Once the next compaction is accepted they can no longer be computed, and
//! members get there at different times; so each remembers a few.

use std::collections::BTreeMap;

use keelson_mvcc::HashResult;
use parking_lot::Mutex;

/// As many are remembered.
const KEPT: usize = 10;

/// The newest checksums, by revision.
#[derive(Debug, Default)]
pub struct KeptHashes {
    by_revision: Mutex<BTreeMap<i64, HashResult>>,
}

impl KeptHashes {
    /// Remembers one, in place of the oldest.
    pub fn keep(&self, hash: HashResult) {
        let mut kept = self.by_revision.lock();
        kept.insert(hash.revision, hash);
        while kept.len() > KEPT {
            kept.pop_first();
        }
    }

    /// The one at `revision`.
    pub fn at(&self, revision: i64) -> Option<HashResult> {
        self.by_revision.lock().get(&revision).copied()
    }

    /// Those above `revision`, the newest first.
    pub fn newer_than(&self, revision: i64) -> Vec<HashResult> {
        self.by_revision.lock().range(revision + 1..).rev().map(|(_, hash)| *hash).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_checksums_are_kept_and_told_newest_first() {
        let kept = KeptHashes::default();
        for revision in [5, 3, 9, 7, 11, 13, 15, 17, 19, 21, 23] {
            kept.keep(HashResult { hash: 1, revision, compacted: revision, current: 30 });
        }
        assert!(kept.at(3).is_none() && kept.at(5).is_some());
        let newer: Vec<i64> = kept.newer_than(17).iter().map(|h| h.revision).collect();
        assert_eq!(newer, [23, 21, 19]);
    }
}
