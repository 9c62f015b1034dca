//! A segment of a log: transactions, one after the other, with the leases that keys in them hang on. Its name says which ones,
//! until when, and the sum of its bytes: a listing of the store shows whether one is missing.

use std::collections::BTreeSet;

use keelson_api::mvccpb::event::EventType;
use keelson_api::mvccpb::{Event, KeyValue};
use prost::Message;
use sha2::{Digest, Sha256};

use super::store::hex;

/// What a segment begins with.
const MAGIC: &[u8] = b"keelson changes 1\n";
const SUFFIX: &str = ".changes";
/// Bytes of a sum or a fingerprint.
const SUM: usize = 16;
/// Bytes of a segment that is read. One transaction may be as large as a request, and one more comes into the fullest.
pub(super) const LARGEST: u64 = 512 << 20;

/// A lease that a key hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Lease {
    /// Its id.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Its granted time to live, in seconds.
    #[prost(int64, tag = "2")]
    pub ttl: i64,
}

/// All changes of one revision.
#[derive(Clone, PartialEq, Message)]
pub struct Transaction {
    /// The revision.
    #[prost(int64, tag = "1")]
    pub revision: i64,
    /// When it was seen, in milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub time: i64,
    /// The changes, in their order.
    #[prost(message, repeated, tag = "3")]
    pub events: Vec<Event>,
}

/// A piece of a log.
#[derive(Clone, PartialEq, Message)]
pub struct Segment {
    /// Leases that keys in it hang on, as far as they were still there.
    #[prost(message, repeated, tag = "1")]
    pub leases: Vec<Lease>,
    /// Transactions of revisions that follow one another.
    #[prost(message, repeated, tag = "2")]
    pub transactions: Vec<Transaction>,
}

/// What a segment is called, which tells what is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Its first revision.
    pub first: i64,
    /// Its last one.
    pub last: i64,
    /// When that was seen, in milliseconds since 1970.
    pub time: i64,
    sum: String,
}

impl Segment {
    /// The bytes, and their name; none of an empty segment.
    #[must_use]
    pub fn encode(&self) -> Option<(SegmentName, Vec<u8>)> {
        let (first, last) = (self.transactions.first()?, self.transactions.last()?);
        let mut bytes = MAGIC.to_vec();
        // A vector takes whatever is written to it.
        Message::encode(self, &mut bytes).ok()?;
        let name = SegmentName { first: first.revision, last: last.revision, time: last.time, sum: sum(&bytes) };
        Some((name, bytes))
    }

    /// What `bytes` hold, if they are what the name says.
    pub fn decode(name: &SegmentName, bytes: &[u8]) -> Result<Self, String> {
        if sum(bytes) != name.sum {
            return Err("its sum is of other bytes".into());
        }
        let segment = Self::from_bytes(bytes)?;
        let ends = |t: Option<&Transaction>| t.map(|t| t.revision);
        let (first, last) = (ends(segment.transactions.first()), ends(segment.transactions.last()));
        if (first, last) != (Some(name.first), Some(name.last)) {
            return Err("it has other revisions than its name says".into());
        }
        Ok(segment)
    }

    /// What `bytes` hold.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let body = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a segment does")?;
        let segment = <Self as Message>::decode(body).map_err(|e| format!("it cannot be decoded: {e}"))?;
        let follow = segment.transactions.windows(2).all(|pair| pair[0].revision.checked_add(1) == Some(pair[1].revision));
        let follow = follow && segment.transactions.windows(2).all(|pair| pair[0].time <= pair[1].time);
        if follow { Ok(segment) } else { Err("its transactions do not follow one another".into()) }
    }

    /// Leases that keys in it hang on.
    pub(super) fn lease_ids(transactions: &[Transaction]) -> BTreeSet<i64> {
        let events = transactions.iter().flat_map(|t| &t.events);
        events.filter_map(|event| event.kv.as_ref()).map(|kv| kv.lease).filter(|lease| *lease != 0).collect()
    }
}

impl Transaction {
    /// Equal for equal changes, and for no others.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let none = KeyValue::default();
        fingerprint(self.events.iter().map(|event| {
            let is_delete = event.r#type() == EventType::Delete;
            (is_delete, event.kv.as_ref().unwrap_or(&none))
        }))
    }
}

/// Of the changes of one revision: whether each is a delete, and what is written. Of a delete only the key counts.
pub(super) fn fingerprint<'a>(changes: impl Iterator<Item = (bool, &'a KeyValue)>) -> String {
    let mut hash = Sha256::new();
    let mut bytes = |is_delete: bool, bytes: &[u8]| {
        hash.update([u8::from(is_delete)]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for (is_delete, kv) in changes {
        bytes(is_delete, &kv.key);
        if !is_delete {
            bytes(false, &kv.value);
            let numbers = [kv.create_revision, kv.mod_revision, kv.version, kv.lease];
            bytes(false, &numbers.map(i64::to_be_bytes).concat());
        }
    }
    hex(&hash.finalize()[..SUM])
}

fn sum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..SUM])
}

impl SegmentName {
    /// Its place in a backup.
    #[must_use]
    pub fn path(&self, backup: &str) -> String {
        let Self { first, last, time, sum } = self;
        format!("{backup}/log/{first:019}-{last:019}-{time:015}-{sum}{SUFFIX}")
    }

    /// Reads the last part of a path; none if it is of something else.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('-');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let (first, last, time) = (number()?, number()?, number()?);
        let sum = parts.next()?.to_owned();
        let is_sound = first >= 1 && last >= first && time >= 0 && sum.len() == 2 * SUM && parts.next().is_none();
        is_sound.then_some(Self { first, last, time, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: i64, value: &'static str) -> Event {
        let kv = KeyValue {
            key: "k".into(),
            value: value.into(),
            mod_revision: revision,
            create_revision: 1,
            version: revision,
            lease: 7,
        };
        Event { kv: Some(kv), ..Event::default() }
    }

    fn transaction(revision: i64, time: i64) -> Transaction {
        Transaction { revision, time, events: vec![event(revision, "v")] }
    }

    #[test]
    fn a_segment_is_what_its_name_says_or_is_refused() {
        let leases = vec![Lease { id: 7, ttl: 60 }];
        let segment = Segment { leases, transactions: vec![transaction(5, 100), transaction(6, 100)] };
        let (name, bytes) = segment.encode().unwrap();
        assert_eq!((name.first, name.last, name.time), (5, 6, 100));
        let path = name.path("id");
        assert_eq!(SegmentName::parse(path.strip_prefix("id/log/").unwrap()).as_ref(), Some(&name));
        assert_eq!(Segment::decode(&name, &bytes).unwrap(), segment);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(Segment::decode(&name, &other).is_err(), "{at}");
        }
        assert!(Segment::decode(&name, &bytes[..bytes.len() - 1]).is_err());
        assert!(Segment::decode(&SegmentName { last: 7, ..name }, &bytes).is_err());
        assert_eq!(Segment::default().encode(), None);
        for strange in ["", ".changes", "1-2-3.changes", &format!("2-1-3-{}.changes", "0".repeat(32))] {
            assert_eq!(SegmentName::parse(strange), None, "{strange}");
        }
        assert_eq!(Segment::lease_ids(&segment.transactions), BTreeSet::from([7]));
    }

    #[test]
    fn transactions_that_do_not_follow_one_another_are_no_segment() {
        for transactions in [[transaction(5, 1), transaction(7, 1)], [transaction(5, 2), transaction(6, 1)]] {
            let (_, bytes) = Segment { leases: Vec::new(), transactions: transactions.to_vec() }.encode().unwrap();
            assert!(Segment::from_bytes(&bytes).is_err());
        }
    }

    #[test]
    fn a_fingerprint_is_of_what_was_changed_and_not_of_when_that_was_seen() {
        let one = transaction(5, 1);
        assert_eq!(one.fingerprint(), transaction(5, 2).fingerprint());
        let other = Transaction { events: vec![event(5, "w")], ..one.clone() };
        assert_ne!(other.fingerprint(), one.fingerprint());
        let delete = |revision| {
            let mut event = event(revision, "");
            event.set_type(EventType::Delete);
            Transaction { events: vec![event], ..one.clone() }
        };
        assert_eq!(delete(5).fingerprint(), delete(6).fingerprint(), "a snapshot has nothing but the key of a delete");
        assert_ne!(delete(5).fingerprint(), one.fingerprint());
    }
}
