//! Versions as `mvccpb.KeyValue` bytes, straight from rows: a large list is never held as messages.

use bytes::{BufMut, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::index::KeyMeta;

/// Key of field 2 of a `RangeResponse`: one `KeyValue`.
const KVS: u8 = 0x12;

const fn integers(meta: &KeyMeta) -> [(u8, u64); 3] {
    [(0x10, meta.create.cast_unsigned()), (0x18, meta.main.cast_unsigned()), (0x20, meta.version.cast_unsigned())]
}

fn integer_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value) }
}

fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + encoded_len_varint(len as u64) + len }
}

fn body_len(key: usize, meta: &KeyMeta, value: usize) -> usize {
    let integers: usize = integers(meta).iter().map(|(_, v)| integer_len(*v)).sum();
    bytes_len(key) + integers + bytes_len(value) + integer_len(meta.lease.cast_unsigned())
}

/// Length of what [`put_kv`] writes.
pub(crate) fn kv_len(key: usize, meta: &KeyMeta, value: usize) -> usize {
    let body = body_len(key, meta, value);
    1 + encoded_len_varint(body as u64) + body
}

fn put_bytes(out: &mut BytesMut, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(field);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn put_integer(out: &mut BytesMut, field: u8, value: u64) {
    if value != 0 {
        out.put_u8(field);
        encode_varint(value, out);
    }
}

/// Appends one entry of `RangeResponse.kvs`.
pub(crate) fn put_kv(out: &mut BytesMut, key: &[u8], meta: &KeyMeta, value: &[u8]) {
    out.put_u8(KVS);
    encode_varint(body_len(key.len(), meta, value.len()) as u64, out);
    put_version(out, key, meta, value);
}

/// Appends a version as a `KeyValue`.
pub(crate) fn put_version(out: &mut BytesMut, key: &[u8], meta: &KeyMeta, value: &[u8]) {
    put_bytes(out, 0x0a, key);
    for (field, integer) in integers(meta) {
        put_integer(out, field, integer);
    }
    put_bytes(out, 0x2a, value);
    put_integer(out, 0x30, meta.lease.cast_unsigned());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keelson_api::etcdserverpb::RangeResponse;
    use prost::Message;

    use super::*;
    use crate::row::key_value;

    #[test]
    fn entries_are_what_the_message_would_encode_to() {
        let metas = [
            KeyMeta::default(),
            KeyMeta { main: i64::MAX, sub: 3, size: 9, create: 1, version: 300, lease: -1 },
            KeyMeta { main: 200, sub: 0, size: 0, create: 128, version: 1, lease: 0x7f },
        ];
        for meta in metas {
            for (key, value) in [("", ""), ("k", "v"), ("key\0", &*"x".repeat(200))] {
                let mut out = BytesMut::new();
                put_kv(&mut out, key.as_bytes(), &meta, value.as_bytes());
                let kv = key_value(Bytes::copy_from_slice(key.as_bytes()), &meta, Bytes::copy_from_slice(value.as_bytes()));
                let response = RangeResponse { kvs: vec![kv], ..Default::default() };
                assert_eq!(out, response.encode_to_vec());
                assert_eq!(out.len(), kv_len(key.len(), &meta, value.len()));
            }
        }
    }
}
