//! Single values: keys, ends of ranges, values, revisions and lease ids.

use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::{Generator, Profile};
use crate::oracle::lease_names::CHOSEN;

/// With the sentinel's key that makes a dozen. Not more: up to twelve results etcd sorts by
/// insertion, which keeps the order of equal ones; beyond that, ties come in whatever order Go's
/// sort leaves them, which is no part of the API.
const NARROW_KEYS: &[&[u8]] = &[b"\0", b"\0\0", b"\x01", b"a", b"a\0", b"aa", b"ab", b"b", b"z", b"\xff", b"\xff\xff"];
const WIDE_KEYS: u32 = 60;
/// Several of these in one range are more than one chunk or fragment may hold.
const LARGE_VALUE: std::ops::Range<usize> = 50_000..300_000;

pub const FIXED_LEASES: &[i64] = &[1, 2, 3, 4, 5, 6, -7];

impl Generator {
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.rng).expect("there is something to pick from")
    }

    pub(super) fn key(&mut self) -> Bytes {
        if self.chance(1) {
            return Bytes::new();
        }
        self.real_key()
    }

    pub(super) fn real_key(&mut self) -> Bytes {
        match self.profile {
            Profile::Narrow => Bytes::from_static(self.pick(NARROW_KEYS)),
            Profile::Wide => format!("k{:02}", self.rng.random_range(0..WIDE_KEYS)).into(),
        }
    }

    pub(super) fn range_end(&mut self) -> Bytes {
        match self.rng.random_range(0..10) {
            0..=3 => Bytes::new(),
            4..=5 => Bytes::from_static(b"\0"),
            6..=7 => self.real_key(),
            8 => [&self.real_key()[..], b"\0"].concat().into(),
            _ => Bytes::from_static(b"\xff\xff\xff"),
        }
    }

    /// A key and an end, most often of a range that is not empty.
    pub(super) fn range_bounds(&mut self) -> (Bytes, Bytes) {
        let (key, end) = (self.key(), self.range_end());
        let backwards = !end.is_empty() && end != b"\0"[..] && end < key;
        if backwards && self.chance(80) { (end, key) } else { (key, end) }
    }

    pub(super) fn value(&mut self) -> Bytes {
        match self.rng.random_range(0..100) {
            0..=9 => Bytes::new(),
            10..=79 => format!("v{}", self.rng.random_range(0..6)).into(),
            80..=94 => Bytes::from_static(b"\0\xff\xfe"),
            _ if self.profile == Profile::Wide => vec![b'x'; self.rng.random_range(LARGE_VALUE)].into(),
            _ => vec![b'x'; self.rng.random_range(100..300)].into(),
        }
    }

    /// Most often the present, else a revision that is there, gone, or not there yet.
    pub(super) fn read_revision(&mut self) -> i64 {
        if self.chance(60) { 0 } else { self.any_revision() }
    }

    pub(super) fn any_revision(&mut self) -> i64 {
        let (now, compacted) = (self.scene.revision, self.scene.compacted);
        match self.rng.random_range(0..20) {
            0..=9 => self.rng.random_range(compacted..=now.max(compacted)),
            10..=11 => now,
            12..=13 => now + 1,
            14 => compacted,
            15 => compacted - 1,
            16 => compacted + 1,
            17 => self.rng.random_range(0..=now),
            18 => now + self.rng.random_range(1..1000),
            _ => self.pick(&[-1, -5, 1, i64::MIN, i64::MAX]),
        }
    }

    /// A bound of a filter or a compare: near the revisions that keys really have.
    pub(super) fn key_revision(&mut self) -> i64 {
        let now = self.scene.revision;
        match self.rng.random_range(0..10) {
            0..=6 => self.rng.random_range((now - 40).max(0)..=now),
            7..=8 => self.pick(&[0, 1, 2]),
            _ => self.any_revision(),
        }
    }

    /// For a put: usually none.
    pub(super) fn put_lease(&mut self) -> i64 {
        if self.chance(75) { 0 } else { self.lease() }
    }

    pub(super) fn lease(&mut self) -> i64 {
        match self.rng.random_range(0..10) {
            0..=5 => self.pick(FIXED_LEASES),
            6..=8 if self.chosen_leases > 0 => CHOSEN + self.rng.random_range(0..self.chosen_leases),
            _ => self.pick(&[0, 7, 404, -1, i64::MAX, i64::MIN]),
        }
    }
}
