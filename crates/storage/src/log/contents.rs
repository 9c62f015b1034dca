//! What is in the log: where each entry lies, and the marks. All of it is known from the segments, and is
//! kept in memory; entries are batches of commands, so there are few of them.

use std::collections::{BTreeMap, VecDeque};

use super::LogBounds;

/// Where the row of an entry lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) checksum: u32,
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Index of the first of `entries`.
    first: u64,
    entries: VecDeque<Place>,
    marks: BTreeMap<String, Vec<u8>>,
    /// Segments that are there, and the one that is written to.
    pub(super) oldest_segment: u64,
    pub(super) active_segment: u64,
}

impl Contents {
    pub(super) fn bounds(&self) -> LogBounds {
        let last = (self.entries.len() as u64).checked_sub(1).map(|more| self.first + more);
        LogBounds { first: last.map(|_| self.first), last }
    }

    /// False if the entry does not follow the last one.
    #[must_use]
    pub(super) fn append(&mut self, index: u64, place: Place) -> bool {
        if self.entries.is_empty() {
            self.first = index;
        }
        let follows = self.first + self.entries.len() as u64 == index;
        if follows {
            self.entries.push_back(place);
        }
        follows
    }

    pub(super) fn truncate_from(&mut self, index: u64) {
        let kept = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.truncate(kept);
    }

    pub(super) fn purge_to(&mut self, index: u64) {
        while self.first <= index && self.entries.pop_front().is_some() {
            self.first += 1;
        }
    }

    pub(super) fn mark(&self, name: &str) -> Option<&Vec<u8>> {
        self.marks.get(name)
    }

    pub(super) fn set_mark(&mut self, name: &str, value: Vec<u8>) {
        match self.marks.get_mut(name) {
            Some(old) => *old = value,
            None => drop(self.marks.insert(name.to_owned(), value)),
        }
    }

    pub(super) const fn marks(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.marks
    }

    /// Entries from an index on, as far as there are any.
    pub(super) fn from(&self, index: u64) -> impl Iterator<Item = (u64, Place)> + '_ {
        let index = index.max(self.first);
        let skip = usize::try_from(index - self.first).unwrap_or(usize::MAX);
        (index..).zip(self.entries.iter().skip(skip).copied())
    }

    /// Takes the numbers of the segments that hold no entry that is still there. What they say besides is
    /// repeated at the start of each segment.
    pub(super) fn drop_segments(&mut self) -> std::ops::Range<u64> {
        let needed = self.entries.front().map_or(self.active_segment, |place| place.segment);
        let unneeded = self.oldest_segment..needed;
        self.oldest_segment = needed;
        unneeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u64) -> Place {
        Place { segment, offset: 0, length: 0, checksum: 0 }
    }

    #[test]
    fn entries_follow_each_other_and_go_at_both_ends() {
        let mut log = Contents { oldest_segment: 1, active_segment: 3, ..Contents::default() };
        for (index, segment) in [(5, 1), (6, 1), (7, 2), (8, 3)] {
            assert!(log.append(index, place(segment)));
        }
        assert!(!log.append(10, place(3)) && !log.append(8, place(3)));
        log.truncate_from(8);
        assert_eq!(log.bounds(), LogBounds { first: Some(5), last: Some(7) });
        assert!(log.drop_segments().is_empty());
        log.purge_to(6);
        assert_eq!(log.drop_segments(), 1..2);
        assert_eq!(log.from(0).map(|(index, _)| index).collect::<Vec<_>>(), [7]);
        log.purge_to(20);
        assert_eq!((log.bounds(), log.drop_segments()), (LogBounds::default(), 2..3));
        assert!(log.append(21, place(3)));
        log.truncate_from(3);
        assert_eq!(log.bounds(), LogBounds::default());
    }
}
