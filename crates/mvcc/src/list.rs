//! Large reads, piece by piece. Their encoded length is known before the first piece is read, so an
//! answer of any size goes out without ever being held whole.

use bytes::{Bytes, BytesMut};

use crate::backend::{Backend, ReadMode, Table};
use crate::encode::{kv_len, put_kv};
use crate::key::{KeyRange, history_bounds};
use crate::pin::Pin;
use crate::read::{Query, ReadError, View, scan_from, scan_history, user_key};
use crate::row;
use crate::store::Store;

/// Keys that are measured while the index is held.
const STRIDE: usize = 1024;
/// Of these, so many may have changed since the list's revision and be looked up in the history one by one.
const CHANGED: usize = 64;
/// Room beyond a piece's wanted size, so that its last entry seldom makes the buffer grow.
const SLACK: usize = 16 << 10;

/// Lists of more bytes are read past the cache: they would drive everything else out of it.
const WORTH_CACHING: usize = 8 << 20;

/// A range being read at one revision, in key order.
pub struct List<B> {
    pin: Pin<B>,
    /// What is left to read.
    rest: KeyRange,
    left: Size,
    outline: Outline,
    cache: bool,
}

/// What is known of a list before it is read.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    /// Keys in all pieces together.
    pub keys: usize,
    /// Bytes of all pieces together.
    pub encoded_len: usize,
    /// Keys in the range, whatever the limit.
    pub count: usize,
    /// Newest revision of the store when the list began.
    pub current_revision: i64,
}

/// What a list comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    keys: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, key: usize, meta: &crate::KeyMeta) {
        self.keys += 1;
        self.bytes += kv_len(key, meta, meta.size as usize);
    }
}

/// The span that begins right after `key`.
fn after(key: &[u8], range: &KeyRange) -> KeyRange {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    match range {
        KeyRange::One(_) => KeyRange::Span(next.clone(), Some(next)),
        KeyRange::Span(_, end) => KeyRange::Span(next, end.clone()),
    }
}

impl<B: Backend> Store<B> {
    /// Begins to read a range. Looks at every key: call it off the async threads.
    pub fn list(&self, query: &Query) -> Result<List<B>, ReadError> {
        let pin = self.pin(query.revision)?;
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let size = match self.measure_index(&query.range, pin.revision, limit)? {
            Some(size) => size,
            None => self.measure_history(&query.range, pin.revision, limit)?,
        };
        let count = if size.keys < limit {
            size.keys
        } else {
            let view = View { shared: &self.shared, pending: None, mode: ReadMode::Blocking };
            view.count(&query.range, pin.revision)?
        };
        let Size { keys, bytes } = size;
        let outline = Outline { keys, encoded_len: bytes, count, current_revision: pin.current };
        Ok(List { pin, rest: query.range.clone(), left: size, outline, cache: bytes <= WORTH_CACHING })
    }

    /// From the index, a stride at a time; `None` if changes since are in the way.
    fn measure_index(&self, range: &KeyRange, revision: i64, limit: usize) -> Result<Option<Size>, ReadError> {
        let mut size = Size::default();
        let mut rest = range.clone();
        loop {
            let stride = STRIDE.min(limit - size.keys);
            let (mut seen, mut last, mut changed) = (0, Vec::new(), Vec::new());
            let sure = self.shared.index.read().visit_at(&rest, revision, stride, |key, meta| {
                match meta {
                    Some(meta) => size.add(key.len(), meta),
                    None => changed.push(key.to_vec()),
                }
                seen += 1;
                if seen == stride {
                    last.extend_from_slice(key);
                }
                changed.len() <= CHANGED
            });
            if sure.is_none() {
                return Ok(None);
            }
            for key in changed {
                let one = self.measure_history(&KeyRange::One(key), revision, 1)?;
                size.keys += one.keys;
                size.bytes += one.bytes;
            }
            if seen < stride || size.keys == limit {
                return Ok(Some(size));
            }
            rest = after(&last, &rest);
        }
    }

    fn measure_history(&self, range: &KeyRange, revision: i64, limit: usize) -> Result<Size, ReadError> {
        let mut size = Size::default();
        scan_history(&self.shared.backend, range, revision, |escaped, at, row| {
            if let Some((meta, _)) = row::decode_version(row, at)? {
                size.add(user_key(escaped)?.len(), &meta);
            }
            Ok(size.keys < limit)
        })?;
        Ok(size)
    }
}

impl<B: Backend> List<B> {
    /// What it comes to as a whole.
    #[must_use]
    pub const fn outline(&self) -> Outline {
        self.outline
    }

    /// Reads on: hands over encoded entries of `RangeResponse.kvs`, about `bytes` of them at a time,
    /// until `take` answers false or all have been read. Reads the disk: call it off the async threads.
    pub fn read(&mut self, bytes: usize, mut take: impl FnMut(Bytes) -> bool) -> Result<(), ReadError> {
        if self.left.keys == 0 {
            return Ok(());
        }
        let (from, to) = history_bounds(&self.rest);
        let backend = &self.pin.shared.backend;
        let cursor = if self.cache {
            backend.cursor(Table::History, to.as_deref())
        } else {
            backend.cursor_for_many(Table::History, to.as_deref())
        };
        let left = &mut self.left;
        let (mut out, mut last) = (BytesMut::new(), Vec::new());
        scan_from(cursor, &from, self.pin.revision, |escaped, at, row| {
            let Some((meta, value_at)) = row::decode_version(row, at)? else { return Ok(true) };
            if out.is_empty() {
                out.reserve(left.bytes.min(bytes + SLACK));
            }
            last = user_key(escaped)?;
            put_kv(&mut out, &last, &meta, &row[value_at..]);
            left.keys -= 1;
            if left.keys > 0 && out.len() < bytes {
                return Ok(true);
            }
            left.bytes = left.bytes.saturating_sub(out.len());
            Ok(take(std::mem::take(&mut out).freeze()) && left.keys > 0)
        })?;
        self.rest = after(&last, &self.rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::RangeResponse;
    use prost::Message;

    use super::*;
    use crate::{MemoryBackend, Writer};

    fn query(revision: i64, limit: usize) -> Query {
        let range = KeyRange::Span(Vec::new(), None);
        Query { range, revision, limit, keys_only: false, count_only: false, count: true }
    }

    fn drain(list: &mut List<MemoryBackend>, piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            // Stops now and then, and reads on.
            let (before, mut taken) = (out.len(), 0);
            list.read(piece, |bytes| {
                out.extend_from_slice(&bytes);
                taken += 1;
                taken < 3
            })
            .unwrap();
            if out.len() == before {
                return out;
            }
        }
    }

    fn filled(keys: i64, rounds: i64) -> (Store<MemoryBackend>, Writer<MemoryBackend>) {
        let store = Store::open(MemoryBackend::default()).unwrap();
        let mut w = Writer::new(&store);
        for i in 0..keys * rounds {
            let key = Bytes::from(format!("k{:04}\0", i % keys));
            if i % 11 == 5 {
                w.delete(key);
            } else {
                w.put(key, Bytes::from(vec![b'v'; (i % 300) as usize]), i % 3);
            }
            w.finish();
        }
        w.commit().unwrap();
        (store, w)
    }

    #[test]
    fn pieces_add_up_to_what_a_range_answers_at_every_revision() {
        let (store, _w) = filled(STRIDE as i64 + 100, 3);
        for revision in [0, 2, 900, 1500, store.revision()] {
            for limit in [0, 1, 100, STRIDE] {
                let query = query(revision, limit);
                let whole = store.range(&query, ReadMode::Blocking).unwrap();
                let mut list = store.list(&query).unwrap();
                let outline = list.outline();
                assert_eq!((outline.keys, outline.count), (whole.kvs.len(), whole.count), "{revision} {limit}");
                let want = RangeResponse { kvs: whole.kvs, ..Default::default() }.encode_to_vec();
                assert_eq!(outline.encoded_len, want.len());
                assert!(drain(&mut list, 1000) == want, "{revision} {limit}");
            }
        }
    }

    #[test]
    fn keys_that_have_changed_since_are_measured_as_they_were() {
        let store = Store::open(MemoryBackend::default()).unwrap();
        let mut w = Writer::new(&store);
        let keys = 2 * STRIDE;
        let put = |w: &mut Writer<MemoryBackend>, number: usize, size: usize, lease| {
            w.put(Bytes::from(format!("k{number:04}")), Bytes::from(vec![b'v'; size]), lease);
            w.finish();
        };
        (0..keys).for_each(|number| put(&mut w, number, number % 300, 0));
        w.commit().unwrap();
        let at = store.revision();
        for number in (0..keys).step_by(2 * STRIDE / CHANGED) {
            put(&mut w, number, 1000, 7);
        }
        put(&mut w, keys, 10, 0);
        // First ahead of what readers see, then in their sight.
        for _ in 0..2 {
            for limit in [0, 1, 100, STRIDE, STRIDE + 1] {
                let query = query(at, limit);
                let whole = store.range(&query, ReadMode::Blocking).unwrap();
                let want = RangeResponse { kvs: whole.kvs, ..Default::default() }.encode_to_vec();
                let mut list = store.list(&query).unwrap();
                assert_eq!((list.outline().count, list.outline().encoded_len), (keys, want.len()), "{limit}");
                assert!(drain(&mut list, 1000) == want, "{limit}");
                let many = if limit == 0 { usize::MAX } else { limit };
                assert!(store.measure_index(&query.range, at, many).unwrap().is_some(), "it was read twice");
            }
            w.commit().unwrap();
        }
    }

    #[test]
    fn a_list_that_has_begun_ends_at_its_revision_though_that_is_compacted() {
        let (store, mut w) = filled(50, 4);
        let query = query(0, 0);
        let want = RangeResponse { kvs: store.range(&query, ReadMode::Blocking).unwrap().kvs, ..Default::default() };
        let mut list = store.list(&query).unwrap();
        let at = store.revision();
        for i in 0..50 {
            w.put(Bytes::from(format!("k{i:04}\0")), Bytes::from_static(b"new"), 0);
            w.finish();
        }
        w.compact(at + 40).unwrap();
        w.commit().unwrap();
        while !store.remove_step(7).unwrap().held {}
        assert!(matches!(store.list(&Query { revision: at, ..query }), Err(ReadError::Compacted)));
        assert!(drain(&mut list, 100) == want.encode_to_vec());
        assert!(store.removal_pending());
        drop(list);
        while !store.remove_step(7).unwrap().done {}
        assert!(!store.removal_pending());
    }
}
