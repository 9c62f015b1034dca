//! Fuzz targets for keys of the history and revisions tables, and for ranges.

use keelson_fuzz::{Damage, damaged, target};

use super::*;

#[test]
fn history_keys_keep_the_order_of_keys_and_can_be_taken_apart() {
    target!(40_000).with_type::<(Vec<u8>, Vec<u8>, i64, u32)>().for_each(|(a, b, main, sub)| {
        let at = Revision::new(*main, *sub);
        let (raw_a, raw_b) = (history_key(a, at), history_key(b, at));
        assert_eq!(raw_a.cmp(&raw_b), a.cmp(b));
        let (escaped, revision) = split_history_key(&raw_a).unwrap();
        assert_eq!((unescape(escaped).unwrap(), revision), (a.clone(), at));
        assert!(raw_a >= history_start(a) && raw_a < history_after(a));
        assert_eq!(raw_b >= history_start(a) && raw_b < history_after(a), a == b);
        assert_eq!(split_revision_key(&revision_key(*main, *sub)), Some((*main, *sub)));
    });
}

#[test]
fn a_damaged_history_key_is_refused_or_is_the_key_of_something() {
    target!(40_000).with_type::<(Vec<u8>, i64, u32, Vec<Damage>)>().for_each(|(key, main, sub, damage)| {
        let raw = damaged(&history_key(key, Revision::new(*main, *sub)), damage);
        let _ = split_revision_key(&raw);
        let Some((escaped, at)) = split_history_key(&raw) else { return };
        // Two spellings of one key would make its rows come and go with the way they are looked for.
        if let Some(key) = unescape(escaped) {
            assert_eq!(history_key(&key, at), raw);
        }
    });
}

#[test]
fn what_a_range_says_of_a_key_agrees_with_itself_and_with_the_history_table() {
    target!(30_000).with_type::<[Vec<u8>; 5]>().for_each(|[key, start, end, other_start, other_end]| {
        let range = KeyRange::from_api(start, end);
        let other = KeyRange::from_api(other_start, other_end);
        let contains = range.contains(key);
        assert_eq!(contains, range.side(key).is_eq());
        assert!(!contains || !range.is_empty());
        assert!(!contains || key.as_slice() >= range.start());
        assert_eq!(range.overlaps(&other), other.overlaps(&range));
        assert!(!(contains && other.contains(key)) || range.overlaps(&other));
        let row = history_key(key, Revision::new(1, 0));
        let (from, to) = history_bounds(&range);
        assert_eq!(contains, row >= from && to.is_none_or(|to| row < to));
        let below = KeyRange::from_api(start, &prefix_end(start));
        assert_eq!(below.contains(key), key.starts_with(start) || (start.as_slice() == [0] && prefix_end(start) == [0]));
    });
}
