//! Row values, byte by byte (also in `docs/formats/state.md`). Integers are LEB128 varints.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, Bytes};
use keelson_api::Revision;
use keelson_api::mvccpb::KeyValue;

use crate::backend::StorageError;
use crate::index::KeyMeta;
use crate::store::MAX_REVISION;

const TOMBSTONE: u8 = 0;
const PUT: u8 = 1;

/// What one revision did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// False for a delete.
    pub is_put: bool,
    /// The key.
    pub key: Bytes,
    /// Where the version that this one replaced was written, if there was one.
    pub previous: Option<Revision>,
    /// Length in bytes of the value that was replaced.
    pub previous_size: u32,
}

fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.put_u8((v.to_le_bytes()[0] & 0x7f) | 0x80);
        v >>= 7;
    }
    out.put_u8(v.to_le_bytes()[0]);
}

fn get_varint(buf: &mut &[u8]) -> Option<u64> {
    let mut out = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = buf.try_get_u8().ok()?;
        if shift == 63 && byte > 1 {
            return None;
        }
        out |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(out);
        }
    }
    None
}

pub(crate) fn damaged(what: &str) -> StorageError {
    StorageError(format!("a row of table {what} cannot be decoded: the state store is damaged"))
}

fn put_meta(out: &mut Vec<u8>, meta: &KeyMeta) {
    put_varint(out, u64::from(meta.sub));
    put_varint(out, meta.create.cast_unsigned());
    put_varint(out, meta.version.cast_unsigned());
    put_varint(out, meta.lease.cast_unsigned());
}

/// Revisions and versions that are counted on must leave room for it.
fn get_count(buf: &mut &[u8], range: RangeInclusive<i64>) -> Option<i64> {
    i64::try_from(get_varint(buf)?).ok().filter(|n| range.contains(n))
}

fn get_meta(buf: &mut &[u8], main: i64) -> Option<KeyMeta> {
    Some(KeyMeta {
        main: Some(main).filter(|main| (1..=MAX_REVISION).contains(main))?,
        sub: u32::try_from(get_varint(buf)?).ok()?,
        size: 0,
        create: get_count(buf, 1..=main)?,
        version: get_count(buf, 1..=MAX_REVISION)?,
        lease: get_varint(buf)?.cast_signed(),
    })
}

/// History row of a put.
pub(crate) fn encode_put(meta: &KeyMeta, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 16);
    out.put_u8(PUT);
    put_meta(&mut out, meta);
    out.extend_from_slice(value);
    out
}

/// History row of a delete.
pub(crate) fn tombstone() -> [u8; 1] {
    [TOMBSTONE]
}

/// Whether a history row is a delete.
pub(crate) fn is_tombstone(row: &[u8]) -> bool {
    row.first() == Some(&TOMBSTONE)
}

/// Splits a put's history row into metadata and value; `None` for a tombstone.
pub(crate) fn decode_version(row: &[u8], at: Revision) -> Result<Option<(KeyMeta, usize)>, StorageError> {
    let mut buf = row;
    match buf.try_get_u8() {
        Ok(TOMBSTONE) => Ok(None),
        Ok(PUT) => {
            let mut meta = get_meta(&mut buf, at.main).ok_or_else(|| damaged("history"))?;
            meta.size = u32::try_from(buf.len()).map_err(|_| damaged("history"))?;
            Ok(Some((meta, row.len() - buf.len())))
        }
        _ => Err(damaged("history")),
    }
}

/// The API's view of a version. Without `value` its metadata only.
pub(crate) fn key_value(key: Bytes, meta: &KeyMeta, value: Bytes) -> KeyValue {
    KeyValue { key, create_revision: meta.create, mod_revision: meta.main, version: meta.version, value, lease: meta.lease }
}

/// Row of the live table.
pub(crate) fn encode_live(meta: &KeyMeta) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    put_varint(&mut out, meta.main.cast_unsigned());
    put_varint(&mut out, u64::from(meta.size));
    put_meta(&mut out, meta);
    out
}

/// Inverse of [`encode_live`].
pub(crate) fn decode_live(row: &[u8]) -> Result<KeyMeta, StorageError> {
    let mut buf = row;
    let mut decode = || {
        let main = get_count(&mut buf, 1..=MAX_REVISION)?;
        let size = u32::try_from(get_varint(&mut buf)?).ok()?;
        let meta = KeyMeta { size, ..get_meta(&mut buf, main)? };
        buf.is_empty().then_some(meta)
    };
    decode().ok_or_else(|| damaged("live"))
}

/// Row of the revisions table: a change of `key` that replaced `previous`.
pub(crate) fn encode_change(is_put: bool, key: &[u8], previous: Option<&KeyMeta>) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 10);
    out.put_u8(u8::from(is_put));
    put_varint(&mut out, previous.map_or(0, |p| p.main.cast_unsigned()));
    put_varint(&mut out, previous.map_or(0, |p| u64::from(p.sub)));
    put_varint(&mut out, previous.map_or(0, |p| u64::from(p.size)));
    out.extend_from_slice(key);
    out
}

/// Inverse of [`encode_change`].
pub(crate) fn decode_change(row: &[u8]) -> Result<Change, StorageError> {
    let mut buf = row;
    let mut decode = || {
        let is_put = match buf.try_get_u8().ok()? {
            TOMBSTONE => false,
            PUT => true,
            _ => return None,
        };
        let main = get_count(&mut buf, 0..=MAX_REVISION)?;
        let sub = u32::try_from(get_varint(&mut buf)?).ok()?;
        let previous = (main > 0).then_some(Revision::new(main, sub));
        let previous_size = u32::try_from(get_varint(&mut buf)?).ok()?;
        Some(Change { is_put, key: Bytes::copy_from_slice(buf), previous, previous_size })
    };
    decode().ok_or_else(|| damaged("revisions"))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_a_round_trip_and_reject_damage() {
        let meta = KeyMeta { main: MAX_REVISION, sub: 7, size: 1, create: 300, version: 1 << 40, lease: -1 };
        assert_eq!(decode_live(&encode_live(&meta)).unwrap(), meta);
        let row = encode_put(&meta, b"v");
        let (got, at) = decode_version(&row, meta.revision()).unwrap().unwrap();
        assert_eq!((got, &row[at..]), (meta, b"v".as_slice()));
        let change = decode_change(&encode_change(true, b"k\0", Some(&meta))).unwrap();
        let want = Change { is_put: true, key: Bytes::from_static(b"k\0"), previous: Some(meta.revision()), previous_size: 1 };
        assert_eq!(change, want);
        assert!(decode_version(&row[..3], Revision::new(1, 0)).is_err());
        assert!(decode_version(&[9], Revision::new(1, 0)).is_err());
        assert!(decode_live(&[0xff; 3]).is_err());
        assert!(decode_change(&[]).is_err());
    }
    #[test]
    fn numbers_that_no_store_reaches_are_damage_and_not_something_to_count_on() {
        let meta = KeyMeta { main: 5, sub: 0, size: 1, create: 5, version: 1, lease: 0 };
        for wrong in [
            KeyMeta { version: i64::MAX, ..meta },
            KeyMeta { version: 0, ..meta },
            KeyMeta { main: -1, ..meta },
            KeyMeta { main: i64::MAX, ..meta },
            KeyMeta { create: 6, ..meta },
        ] {
            assert!(decode_live(&encode_live(&wrong)).is_err(), "{wrong:?}");
            assert!(decode_version(&encode_put(&wrong, b"v"), wrong.revision()).is_err(), "{wrong:?}");
        }
        assert!(decode_change(&encode_change(true, b"k", Some(&KeyMeta { main: -1, ..meta }))).is_err());
        assert!(decode_change(&[7, 0, 0, 0]).is_err(), "neither a put nor a delete");
        assert_eq!(get_varint(&mut [0xff; 9].iter().copied().chain([2]).collect::<Vec<_>>().as_slice()), None, "65 bits");
    }
}
