//! Key ranges as the API speaks of them, and the byte layout of history keys.

use std::cmp::Ordering;

use keelson_api::Revision;
pub use keelson_api::prefix_end;

/// A set of keys: one key, or `start..end` where a missing end means "to the last key".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyRange {
    /// Exactly this key.
    One(Vec<u8>),
    /// All keys at or after the first, before the second.
    Span(Vec<u8>, Option<Vec<u8>>),
}

impl KeyRange {
    /// The API's reading of `key` and `range_end`: empty end = one key, `\0` = open end.
    #[must_use]
    pub fn from_api(key: &[u8], range_end: &[u8]) -> Self {
        match range_end {
            [] => Self::One(key.to_vec()),
            [0] => Self::Span(if key == [0] { Vec::new() } else { key.to_vec() }, None),
            end => Self::Span(key.to_vec(), Some(end.to_vec())),
        }
    }

    /// First key that may belong to the range.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        match self {
            Self::One(k) | Self::Span(k, _) => k,
        }
    }

    /// Whether `key` belongs to the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(k) => k == key,
            Self::Span(start, end) => start.as_slice() <= key && self.before_end(key, end.as_deref()),
        }
    }

    #[allow(clippy::unused_self)]
    fn before_end(&self, key: &[u8], end: Option<&[u8]>) -> bool {
        end.is_none_or(|end| key < end)
    }

    /// Where `key` lies relative to the range: before it, in it, or after it.
    #[must_use]
    pub fn side(&self, key: &[u8]) -> Ordering {
        match self {
            Self::One(k) => key.cmp(k),
            Self::Span(start, _) if key < start.as_slice() => Ordering::Less,
            Self::Span(_, end) if self.before_end(key, end.as_deref()) => Ordering::Equal,
            Self::Span(..) => Ordering::Greater,
        }
    }

    /// No key can belong to it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Span(start, Some(end)) if end <= start)
    }

    /// Whether some key belongs to both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(k), o) | (o, Self::One(k)) => o.contains(k),
            (Self::Span(a, a_end), Self::Span(b, b_end)) => {
                a_end.as_ref().is_none_or(|e| b < e) && b_end.as_ref().is_none_or(|e| a < e)
            }
        }
    }
}

/// Appends the escaped form of `key`: order is kept, and no escaped key is a prefix of another.
pub(crate) fn escape_into(out: &mut Vec<u8>, key: &[u8]) {
    out.reserve(key.len() + 10);
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|b| *b == 0) {
        out.extend_from_slice(&rest[..=zero]);
        out.push(0xff);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 1]);
}

/// `escape(key)` + inverted revision: the newest version of a key comes first.
pub(crate) fn history_key(key: &[u8], at: Revision) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 14);
    escape_into(&mut out, key);
    out.extend_from_slice(&(!at.main.cast_unsigned()).to_be_bytes());
    out.extend_from_slice(&(!at.sub).to_be_bytes());
    out
}

/// First history row of `key` and everything after it.
pub(crate) fn history_start(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2);
    escape_into(&mut out, key);
    out
}

/// First possible history row after all rows of `key`.
pub(crate) fn history_after(key: &[u8]) -> Vec<u8> {
    let mut out = history_start(key);
    *out.last_mut().expect("an escaped key ends with its terminator") = 2;
    out
}

/// Where the history rows of a range begin and end (`None`: open).
pub(crate) fn history_bounds(range: &KeyRange) -> (Vec<u8>, Option<Vec<u8>>) {
    match range {
        KeyRange::One(k) => (history_start(k), Some(history_after(k))),
        KeyRange::Span(start, end) => (history_start(start), end.as_ref().map(|e| history_start(e))),
    }
}

/// Splits a history key into the escaped user key (with terminator) and the revision.
pub(crate) fn split_history_key(raw: &[u8]) -> Option<(&[u8], Revision)> {
    let (escaped, rev) = raw.split_at_checked(raw.len().checked_sub(12)?)?;
    escaped.ends_with(&[0, 1]).then_some(())?;
    let (main, sub) = split_revision_key(rev)?;
    Some((escaped, Revision::new(!main, !sub)))
}

/// The user key behind an escaped one; `None` if it was not made by [`escape_into`].
pub(crate) fn unescape(escaped: &[u8]) -> Option<Vec<u8>> {
    let body = escaped.strip_suffix(&[0, 1])?;
    if !body.contains(&0) {
        return Some(body.to_vec());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(b) = bytes.next() {
        out.push(*b);
        if *b == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
    }
    Some(out)
}

/// Key of a row in the revisions table.
pub(crate) fn revision_key(main: i64, sub: u32) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&main.cast_unsigned().to_be_bytes());
    out[8..].copy_from_slice(&sub.to_be_bytes());
    out
}

/// Inverse of [`revision_key`].
pub(crate) fn split_revision_key(raw: &[u8]) -> Option<(i64, u32)> {
    let (main, sub) = raw.split_at_checked(8)?;
    Some((i64::from_be_bytes(main.try_into().ok()?), u32::from_be_bytes(sub.try_into().ok()?)))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_keys_sort_by_key_then_newest_first() {
        let keys: &[&[u8]] = &[b"", b"\0", b"\0\0", b"\0\x01", b"a", b"a\0", b"a\0b", b"ab", b"b", b"\xff", b"\xff\xff"];
        let mut rows = Vec::new();
        for k in keys {
            for rev in [Revision::new(9, 1), Revision::new(9, 0), Revision::new(5, 2), Revision::new(1, 0)] {
                rows.push((k.to_vec(), rev, history_key(k, rev)));
            }
        }
        assert!(rows.windows(2).all(|w| w[0].2 < w[1].2), "{rows:x?}");
        for (k, rev, raw) in &rows {
            let (escaped, main) = split_history_key(raw).unwrap();
            assert_eq!((unescape(escaped).unwrap(), main), (k.clone(), *rev));
            assert!(*raw >= history_start(k) && *raw < history_after(k));
        }
    }

    #[test]
    fn a_key_with_a_damaged_escape_is_not_taken_for_another_key() {
        assert_eq!(unescape(&[b'a', 0, 0xff, 0, 1]), Some(vec![b'a', 0]));
        assert_eq!(unescape(&[b'a', 0, 0xfe, 0, 1]), None);
        assert_eq!(unescape(&[b'a', 0, 0, 1]), None);
        assert_eq!(unescape(b"a"), None);
    }

    #[test]
    fn api_ranges_mean_what_etcd_says() {
        assert_eq!(KeyRange::from_api(b"a", b""), KeyRange::One(b"a".to_vec()));
        assert!(KeyRange::from_api(b"\0", b"\0").contains(b""));
        assert!(KeyRange::from_api(b"b", b"\0").contains(b"zzz"));
        assert!(!KeyRange::from_api(b"b", b"\0").contains(b"a"));
        assert!(KeyRange::from_api(b"b", b"a").is_empty());
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), [0]);
    }

    #[test]
    fn overlap_is_symmetric() {
        let span = |a: &[u8], b: &[u8]| KeyRange::from_api(a, b);
        for (a, b, want) in [
            (span(b"a", b"c"), span(b"b", b"d"), true),
            (span(b"a", b"b"), span(b"b", b"d"), false),
            (span(b"a", b""), span(b"a", b"b"), true),
            (span(b"b", b"\0"), span(b"z", b""), true),
            (span(b"b", b""), span(b"a", b""), false),
        ] {
            assert_eq!(a.overlaps(&b), want);
            assert_eq!(b.overlaps(&a), want);
        }
    }
}
