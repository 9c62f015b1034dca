//! What somebody may read and write: the union of what all roles give.

use std::collections::BTreeSet;
use std::ops::Bound::{Included, Unbounded};

use bytes::Bytes;
use keelson_api::authpb::Permission;
use keelson_api::authpb::permission::Type;

/// What is wanted of a key or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Right {
    Read,
    Write,
}

/// Its first key, and the first one after it; without an end it goes on to the last key.
type Range = (Bytes, Option<Bytes>);

/// Ranges in order, none of which touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<Range>);

impl Ranges {
    fn union(mut ranges: Vec<Range>) -> Self {
        ranges.sort();
        let mut union: Vec<Range> = Vec::new();
        for (start, end) in ranges {
            match union.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| start <= *last) => {
                    let is_later = match (&*last, &end) {
                        (None, _) => false,
                        (Some(_), None) => true,
                        (Some(last), Some(end)) => end > last,
                    };
                    if is_later {
                        *last = end;
                    }
                }
                _ => union.push((start, end)),
            }
        }
        Self(union)
    }

    /// The last range that begins with this key or before it.
    fn before(&self, key: &[u8]) -> Option<&Range> {
        let after = self.0.partition_point(|(start, _)| start[..] <= *key);
        after.checked_sub(1).and_then(|at| self.0.get(at))
    }

    /// Whether all of a request's range is in here. One whose end is not after its key holds nothing: its key counts.
    fn cover(&self, key: &[u8], range_end: &[u8]) -> bool {
        let Some((_, end)) = self.before(key) else { return false };
        let Some(end) = end else { return true };
        let end = &end[..];
        match range_end {
            [] => key < end,
            [0] => false,
            range_end => key < end && range_end <= end,
        }
    }

    /// Whether each of these keys is in here. From the first key of a range it goes on behind that range at once: a lease may
    /// have a million keys, and this is asked where nothing else is applied meanwhile.
    fn cover_all(&self, keys: &BTreeSet<Bytes>) -> bool {
        let mut next = keys.first();
        while let Some(key) = next {
            match self.before(key) {
                Some((_, None)) => return true,
                Some((_, Some(end))) if key < end => next = keys.range::<[u8], _>((Included(&end[..]), Unbounded)).next(),
                _ => return false,
            }
        }
        true
    }
}

/// The key alone, all keys from it on, or those before the end: what range ends mean in the API.
fn range(permission: &Permission) -> Range {
    let key = permission.key.clone();
    let end = match &permission.range_end[..] {
        [] => Some([&key[..], &[0]].concat().into()),
        [0] => None,
        _ => Some(permission.range_end.clone()),
    };
    (key, end)
}

fn gives(permission: &Permission, right: Right) -> bool {
    match Type::try_from(permission.perm_type) {
        Ok(Type::Readwrite) => true,
        Ok(Type::Read) => right == Right::Read,
        Ok(Type::Write) => right == Right::Write,
        Err(_) => false,
    }
}

/// What several permissions come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    read: Ranges,
    write: Ranges,
}

impl Rights {
    pub(super) fn of<'a>(permissions: impl Iterator<Item = &'a Permission> + Clone) -> Self {
        let with = |right| Ranges::union(permissions.clone().filter(|p| gives(p, right)).map(range).collect());
        Self { read: with(Right::Read), write: with(Right::Write) }
    }

    pub(super) fn include(&self, right: Right, key: &[u8], range_end: &[u8]) -> bool {
        match right {
            Right::Read => self.read.cover(key, range_end),
            Right::Write => self.write.cover(key, range_end),
        }
    }

    pub(super) fn include_all(&self, right: Right, keys: &BTreeSet<Bytes>) -> bool {
        match right {
            Right::Read => self.read.cover_all(keys),
            Right::Write => self.write.cover_all(keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(kind: Type, key: &'static str, end: &'static str) -> Permission {
        Permission { perm_type: kind.into(), key: key.into(), range_end: end.into() }
    }

    fn reads(granted: &[(&'static str, &'static str)], key: &str, end: &str) -> bool {
        let permissions: Vec<_> = granted.iter().map(|(key, end)| permission(Type::Read, key, end)).collect();
        Rights::of(permissions.iter()).include(Right::Read, key.as_bytes(), end.as_bytes())
    }

    #[test]
    fn a_range_may_be_read_if_the_union_of_what_is_granted_covers_it() {
        assert!(reads(&[("a", "c"), ("c", "e")], "a", "e"), "ranges that touch are one");
        assert!(reads(&[("b", "d"), ("a", "c"), ("a", "b")], "a", "d"));
        assert!(!reads(&[("a", "c"), ("d", "e")], "a", "e"), "there is a gap");
        assert!(reads(&[("a", "z"), ("b", "c")], "d", "y"), "a range within another takes nothing away");
        assert!(!reads(&[("a", "c")], "a", "c\0"));
        assert!(!reads(&[("b", "c")], "a", "c") && !reads(&[], "a", ""));
    }

    #[test]
    fn a_key_alone_is_not_the_keys_that_begin_with_it() {
        assert!(reads(&[("a", "")], "a", "") && reads(&[("a", "")], "a", "a\0"));
        assert!(!reads(&[("a", "")], "aa", "") && !reads(&[("a", "")], "a", "b"));
        assert!(!reads(&[("a", "")], "a", "\0"), "an open range from that key on");
        assert!(!reads(&[("a", "b")], "b", ""), "the end is not in it");
        assert!(reads(&[("a", ""), ("a\0", "b")], "a", "b"));
    }

    #[test]
    fn an_open_end_covers_all_that_follows_and_nothing_else_covers_it() {
        assert!(reads(&[("b", "\0")], "b", "\0") && reads(&[("b", "\0")], "zz", "\0") && reads(&[("b", "\0")], "c", "d"));
        assert!(!reads(&[("b", "\0")], "a", "\0"));
        assert!(reads(&[("a", "c"), ("b", "\0")], "a", "\0"));
        assert!(!reads(&[("a", "\u{7f}")], "a", "\0"));
        assert!(reads(&[("\0", "\0")], "\0", "\0"));
    }

    #[test]
    fn of_a_range_whose_end_is_before_its_key_the_key_counts() {
        assert!(reads(&[("b", "c")], "b", "a") && !reads(&[("a", "b")], "b", "a"));
        assert!(reads(&[("b", "\0")], "b", "a") && reads(&[("b", "c")], "b", "b"));
    }

    #[test]
    fn many_keys_are_covered_if_each_of_them_is() {
        let granted = [("b", ""), ("d", "f"), ("g", "h"), ("x", "\0")];
        let permissions: Vec<_> = granted.iter().map(|(key, end)| permission(Type::Read, key, end)).collect();
        let rights = Rights::of(permissions.iter());
        let names = ["", "a", "b", "b\0", "c", "d", "dd", "e", "f", "g", "gg", "h", "w", "x", "y", "\u{7f}"];
        // Every set of up to three keys, with its answer from the check of one.
        for (first, second, third) in (0..names.len().pow(3)).map(|n| (n % 16, n / 16 % 16, n / 256)) {
            let keys: BTreeSet<Bytes> = [first, second, third].map(|at| Bytes::from(names[at])).into();
            let each = keys.iter().all(|key| rights.include(Right::Read, key, b""));
            assert_eq!(rights.include_all(Right::Read, &keys), each, "{keys:?}");
            assert!(!rights.include_all(Right::Write, &keys));
        }
        assert!(rights.include_all(Right::Write, &BTreeSet::new()));
    }

    #[test]
    fn reading_and_writing_are_granted_apart_or_together() {
        let granted = [permission(Type::Read, "r", ""), permission(Type::Write, "w", ""), permission(Type::Readwrite, "b", "")];
        let rights = Rights::of(granted.iter());
        for (key, read, write) in [("r", true, false), ("w", false, true), ("b", true, true)] {
            assert_eq!(rights.include(Right::Read, key.as_bytes(), b""), read);
            assert_eq!(rights.include(Right::Write, key.as_bytes(), b""), write);
        }
        let unknown = Permission { perm_type: 7, key: "a".into(), range_end: Bytes::new() };
        assert_eq!(Rights::of([unknown].iter()), Rights::default());
    }
}
