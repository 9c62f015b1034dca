//! Collects what a watch of all keys tells, until it is enough for a segment. It lets nothing pass that leaves a gap.

use keelson_api::mvccpb::Event;
use prost::Message;

use super::segment::{Lease, Segment, SegmentName, Transaction};

/// Transactions that must come again as they were. One alone could be the same in another history: to delete a key is.
pub(super) const ANCHORS: i64 = 16;

/// Where the store has got to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The last revision that it has.
    pub revision: i64,
    /// Fingerprints of the last transactions up to that one; none if the snapshot they are in does not tell.
    pub fingerprints: Vec<String>,
}

impl Anchor {
    /// The end of a log.
    #[must_use]
    pub fn of(transactions: &[Transaction]) -> Option<Self> {
        let revision = transactions.last()?.revision;
        let last = transactions.iter().filter(|t| t.revision > revision - ANCHORS);
        Some(Self { revision, fingerprints: last.map(Transaction::fingerprint).collect() })
    }

    /// The first revision that a fingerprint is known of, or the one after the last.
    fn begin(&self) -> i64 {
        self.revision.saturating_add(1) - i64::try_from(self.fingerprints.len()).unwrap_or_default()
    }
}

/// What was told is not what comes next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NotNext {
    #[error("revision {0} is not what it was: the cluster has another history than this backup")]
    OtherHistory(i64),
    #[error("revision {expected} was to come, and {found} has come")]
    Gap { expected: i64, found: i64 },
}

/// Transactions that are not in the store yet.
#[derive(Clone, Debug)]
pub struct Recorder {
    last: Anchor,
    /// How many of its fingerprints have come again.
    come_again: usize,
    transactions: Vec<Transaction>,
    bytes: usize,
}

impl Recorder {
    /// Goes on after `last`. What is known of it must come first once more.
    #[must_use]
    pub const fn after(last: Anchor) -> Self {
        Self { last, come_again: 0, transactions: Vec::new(), bytes: 0 }
    }

    /// Where the watch has to begin.
    #[must_use]
    pub fn watch_from(&self) -> i64 {
        self.last.begin()
    }

    /// Bytes that have been collected, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The anchor has come again, or did not have to.
    #[must_use]
    pub const fn is_anchored(&self) -> bool {
        self.come_again == self.last.fingerprints.len()
    }

    /// The newest revision that has come.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.transactions.last().map_or(self.last.revision, |t| t.revision)
    }

    /// Takes the events of one answer, seen at `time`: whole revisions, in their order.
    pub fn add(&mut self, events: Vec<Event>, time: i64) -> Result<(), NotNext> {
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for run in events.chunk_by(|one, next| revision(one) == revision(next)) {
            let found = revision(&run[0]);
            let transaction = Transaction { revision: found, time, events: run.to_vec() };
            if let Some(known) = self.last.fingerprints.get(self.come_again) {
                let expected = self.last.begin() + i64::try_from(self.come_again).unwrap_or_default();
                if found != expected || *known != transaction.fingerprint() {
                    return Err(NotNext::OtherHistory(expected));
                }
                self.come_again += 1;
                continue;
            }
            let expected = self.revision().saturating_add(1);
            if found != expected {
                return Err(NotNext::Gap { expected, found });
            }
            self.bytes += transaction.encoded_len();
            self.transactions.push(transaction);
        }
        Ok(())
    }

    /// Leases whose time to live the segment should tell.
    pub fn lease_ids(&self) -> impl Iterator<Item = i64> + use<> {
        Segment::lease_ids(&self.transactions).into_iter()
    }

    /// What has been collected, as a segment; none if that is nothing. It stays until [`Recorder::stored`].
    #[must_use]
    pub fn segment(&self, leases: Vec<Lease>) -> Option<(SegmentName, Vec<u8>)> {
        Segment { leases, transactions: self.transactions.clone() }.encode()
    }

    /// What has been collected is in the store: what comes next must follow it.
    pub fn stored(&mut self) {
        if let Some(last) = Anchor::of(&self.transactions) {
            self.last = last;
        }
        self.restart();
    }

    /// Where transactions before the last one have been compacted, that one alone must come again. False if it was so already.
    pub fn loosen(&mut self) -> bool {
        let known = self.last.fingerprints.len();
        if known <= 1 || self.is_anchored() {
            return false;
        }
        self.last.fingerprints.drain(..known - 1);
        self.come_again = 0;
        true
    }

    /// Forgets what has been collected: it will be told again.
    pub fn restart(&mut self) {
        *self = Self::after(self.last.clone());
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::mvccpb::KeyValue;

    use super::*;

    fn event(revision: i64, value: &'static str) -> Event {
        let kv = KeyValue { key: "k".into(), value: value.into(), mod_revision: revision, ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    #[test]
    fn revisions_are_taken_whole_and_none_may_be_missing() {
        let mut recorder = Recorder::after(Anchor { revision: 4, fingerprints: Vec::new() });
        assert_eq!(recorder.watch_from(), 5);
        recorder.add(vec![event(5, "a"), event(5, "b"), event(6, "c")], 10).unwrap();
        recorder.add(vec![event(7, "d")], 11).unwrap();
        assert_eq!((recorder.revision(), recorder.bytes() > 0), (7, true));
        let (name, bytes) = recorder.segment(Vec::new()).unwrap();
        assert_eq!((name.first, name.last, name.time), (5, 7, 11));
        let segment = Segment::decode(&name, &bytes).unwrap();
        assert_eq!(segment.transactions.iter().map(|t| t.events.len()).collect::<Vec<_>>(), [2, 1, 1]);
        let gap = recorder.clone().add(vec![event(9, "e")], 12);
        assert_eq!(gap, Err(NotNext::Gap { expected: 8, found: 9 }));
        let twice = recorder.add(vec![event(7, "d")], 12);
        assert_eq!(twice, Err(NotNext::Gap { expected: 8, found: 7 }));
    }

    #[test]
    fn what_is_in_the_store_must_come_again_as_it_was() {
        let mut recorder = Recorder::after(Anchor { revision: 4, fingerprints: Vec::new() });
        recorder.add(vec![event(5, "a"), event(6, "b")], 10).unwrap();
        recorder.stored();
        let next = recorder;
        assert_eq!((next.watch_from(), next.is_anchored(), next.segment(Vec::new())), (5, false, None));
        let mut sound = next.clone();
        sound.add(vec![event(5, "a")], 11).unwrap();
        assert!(!sound.is_anchored());
        sound.add(vec![event(6, "b"), event(7, "c")], 11).unwrap();
        assert_eq!((sound.revision(), sound.is_anchored()), (7, true));
        sound.restart();
        assert_eq!((sound.revision(), sound.watch_from(), sound.bytes()), (6, 5, 0));
        for (other, at) in [(vec![event(5, "x")], 5), (vec![event(6, "b")], 5), (vec![event(5, "a"), event(6, "x")], 6)] {
            assert_eq!(next.clone().add(other, 11), Err(NotNext::OtherHistory(at)));
        }
        let mut compacted = next.clone();
        assert!(compacted.loosen() && compacted.watch_from() == 6 && !compacted.loosen());
        compacted.add(vec![event(6, "b"), event(7, "c")], 11).unwrap();
        let many: Vec<Event> = (7..100).map(|revision| event(revision, "v")).collect();
        let mut far = next;
        far.add(vec![event(5, "a"), event(6, "b")], 12).unwrap();
        far.add(many, 12).unwrap();
        far.stored();
        assert_eq!((far.revision(), far.watch_from()), (99, 84), "not all of a large segment");
    }
}
