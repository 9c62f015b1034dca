//! Checksums of the history that the server gave: the same range of revisions must have the same
//! checksum for ever, whatever was killed in between.

use std::collections::BTreeMap;

/// How many are asked for again in one audit.
const CHECKED: usize = 6;

#[derive(Debug, Default)]
pub struct Hashes {
    /// By compacted revision and newest revision.
    known: BTreeMap<(i64, i64), u32>,
}

impl Hashes {
    pub fn note(&mut self, compacted: i64, revision: i64, hash: u32) -> Result<(), String> {
        match self.known.insert((compacted, revision), hash) {
            Some(before) if before != hash => {
                Err(format!("the hash of revisions {compacted} to {revision} was {before:08x} and is {hash:08x}"))
            }
            _ => Ok(()),
        }
    }

    /// The revisions whose hash can still be compared, newest first; forgets the others.
    pub fn comparable(&mut self, compacted: i64) -> Vec<i64> {
        self.known.retain(|(from, _), _| *from >= compacted);
        self.known.keys().rev().filter(|(from, _)| *from == compacted).map(|(_, to)| *to).take(CHECKED).collect()
    }
}
