//! Who is wrong when members differ: those that most do not agree with. Pure, so that it can be tried.

use std::collections::BTreeMap;

use keelson_mvcc::HashResult;

/// What another member said of its data.
#[derive(Clone, Debug)]
pub struct Said {
    /// The member.
    pub id: u64,
    /// Its checksum at the revision that was asked for; `None` if it gave none.
    pub hash: Option<HashResult>,
}

impl Said {
    /// The checksum, if it covers the same history as `own`: another compaction leaves other rows.
    pub fn comparable(&self, own: &HashResult) -> Option<u32> {
        self.hash.filter(|h| h.revision == own.revision && h.compacted == own.compacted).map(|h| h.hash)
    }
}

/// What comes of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All members have the same.
    Equal,
    /// All that could be compared have the same.
    Unfinished,
    /// These differ from what a majority of all members has.
    Suspects(Vec<u64>),
    /// These differ from `own`, and nothing is shared by a majority.
    Undecided(Vec<u64>),
}

/// Compares the checksum of member `me` with what all others said.
pub fn by_majority(me: u64, own: &HashResult, said: &[Said]) -> Verdict {
    let mut by_hash = BTreeMap::from([(own.hash, vec![me])]);
    for (id, hash) in said.iter().filter_map(|s| Some((s.id, s.comparable(own)?))) {
        by_hash.entry(hash).or_default().push(id);
    }
    let compared: usize = by_hash.values().map(Vec::len).sum();
    let members = said.len() + 1;
    if by_hash.len() == 1 {
        return if compared == members { Verdict::Equal } else { Verdict::Unfinished };
    }
    match by_hash.iter().find(|(_, ids)| ids.len() > members / 2).map(|(hash, _)| *hash) {
        Some(right) => {
            Verdict::Suspects(by_hash.into_iter().filter(|(hash, _)| *hash != right).flat_map(|(_, ids)| ids).collect())
        }
        None => Verdict::Undecided(by_hash.into_iter().filter(|(hash, _)| *hash != own.hash).flat_map(|(_, ids)| ids).collect()),
    }
}

/// Members that claim a newer revision, or a newer compaction, than the leader has by now: they made it up.
pub fn ahead((revision, compacted): (i64, i64), said: &[Said]) -> Vec<u64> {
    let claims_more = |s: &&Said| s.hash.is_some_and(|h| h.current > revision || h.compacted > compacted);
    said.iter().filter(claims_more).map(|s| s.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(hash: u32) -> HashResult {
        HashResult { hash, revision: 9, compacted: 3, current: 9 }
    }

    fn said(hashes: &[Option<u32>]) -> Vec<Said> {
        (2..).zip(hashes).map(|(id, h)| Said { id, hash: h.map(hash) }).collect()
    }

    #[test]
    fn whoever_most_disagree_with_is_suspected_and_without_a_majority_nobody() {
        let judged = |hashes: &[Option<u32>]| by_majority(1, &hash(7), &said(hashes));
        assert_eq!(judged(&[]), Verdict::Equal);
        assert_eq!(judged(&[Some(7), Some(7)]), Verdict::Equal);
        assert_eq!(judged(&[Some(7), None]), Verdict::Unfinished);
        assert_eq!(judged(&[Some(7), Some(8)]), Verdict::Suspects(vec![3]));
        assert_eq!(judged(&[Some(8), Some(8)]), Verdict::Suspects(vec![1]));
        assert_eq!(judged(&[Some(8), Some(8), Some(7), Some(8)]), Verdict::Suspects(vec![1, 4]));
        // Two of three are needed, whoever is silent.
        assert_eq!(judged(&[Some(8), None]), Verdict::Undecided(vec![2]));
        assert_eq!(judged(&[Some(8)]), Verdict::Undecided(vec![2]));
        assert_eq!(judged(&[Some(8), Some(9)]), Verdict::Undecided(vec![2, 3]));
    }

    #[test]
    fn another_compaction_is_not_compared_and_nobody_may_be_ahead_of_the_leader() {
        let other = Said { id: 2, hash: Some(HashResult { compacted: 4, hash: 8, ..hash(0) }) };
        assert_eq!(by_majority(1, &hash(7), std::slice::from_ref(&other)), Verdict::Unfinished);
        assert_eq!(ahead((9, 4), std::slice::from_ref(&other)), Vec::<u64>::new());
        assert_eq!(ahead((9, 3), std::slice::from_ref(&other)), [2]);
        assert_eq!(ahead((8, 4), &[other]), [2]);
    }
}
