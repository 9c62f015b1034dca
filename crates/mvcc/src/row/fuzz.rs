//! Fuzz targets for the rows of the history, live and revisions tables.

use bolero::TypeGenerator;
use keelson_fuzz::{Damage, damaged, target};

use super::*;

/// Metadata with anything in it that the writer could have put there.
#[derive(Debug, TypeGenerator)]
struct AnyMeta {
    main: u32,
    sub: u32,
    size: u32,
    age: u32,
    version: u32,
    lease: i64,
    large: u8,
}

impl AnyMeta {
    fn meta(&self) -> KeyMeta {
        let wide = |n: u32| (i64::from(n) << (self.large % 29)) + 1;
        let create = wide(self.main);
        let main = create + i64::from(self.age);
        KeyMeta { main, sub: self.sub, size: self.size, create, version: wide(self.version), lease: self.lease }
    }
}

fn says_where(e: &StorageError, table: &str) {
    assert!(e.0.contains(table) && e.0.contains("damaged"), "{e}");
}

#[test]
fn history_rows_survive_a_round_trip_and_damage_is_an_error_or_another_row() {
    target!(40_000).with_type::<(AnyMeta, Vec<u8>, Vec<Damage>)>().for_each(|(meta, value, damage)| {
        let meta = KeyMeta { size: u32::try_from(value.len()).unwrap(), ..meta.meta() };
        let row = encode_put(&meta, value);
        let (got, at) = decode_version(&row, meta.revision()).unwrap().unwrap();
        assert_eq!((got, &row[at..]), (meta, value.as_slice()));
        assert!(!is_tombstone(&row) && is_tombstone(&tombstone()));

        let row = damaged(&row, damage);
        match decode_version(&row, meta.revision()) {
            Ok(Some((got, at))) => {
                let again = encode_put(&got, &row[at..]);
                assert_eq!(decode_version(&again, meta.revision()).unwrap(), Some((got, again.len() - (row.len() - at))));
            }
            Ok(None) => assert!(is_tombstone(&row)),
            Err(e) => says_where(&e, "history"),
        }
    });
}

#[test]
fn live_rows_survive_a_round_trip_and_damage_is_an_error_or_another_row() {
    target!(60_000).with_type::<(AnyMeta, Vec<Damage>)>().for_each(|(meta, damage)| {
        let meta = meta.meta();
        assert_eq!(decode_live(&encode_live(&meta)).unwrap(), meta);
        match decode_live(&damaged(&encode_live(&meta), damage)) {
            Ok(got) => assert_eq!(decode_live(&encode_live(&got)).unwrap(), got),
            Err(e) => says_where(&e, "live"),
        }
    });
}

#[test]
fn revisions_rows_survive_a_round_trip_and_damage_is_an_error_or_another_row() {
    target!(60_000).with_type::<(bool, Vec<u8>, Option<AnyMeta>, Vec<Damage>)>().for_each(|(is_put, key, previous, damage)| {
        let previous = previous.as_ref().map(AnyMeta::meta);
        let row = encode_change(*is_put, key, previous.as_ref());
        let change = Change {
            is_put: *is_put,
            key: Bytes::copy_from_slice(key),
            previous: previous.map(|p| p.revision()),
            previous_size: previous.map_or(0, |p| p.size),
        };
        assert_eq!(decode_change(&row).unwrap(), change);
        match decode_change(&damaged(&row, damage)) {
            Ok(got) => assert!(got.previous.is_none_or(|p| p.main > 0)),
            Err(e) => says_where(&e, "revisions"),
        }
    });
}
