//! Every version that can still be read, for a copy of the store in another format. They come in the order of the
//! history, a piece at a time: compaction takes none of them away meanwhile, and no cursor is held for long.

use bytes::BytesMut;
use keelson_api::Revision;

use crate::backend::{Backend, Cursor, StorageError, Table};
use crate::encode::put_version;
use crate::index::KeyMeta;
use crate::key::split_history_key;
use crate::pin::Pin;
use crate::read::{ReadError, damaged_key, user_key};
use crate::row;
use crate::store::{MAX_REVISION, Store, meta_key};

/// How far a store has got, as the rows of its meta table have it at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Newest revision.
    pub revision: i64,
    /// Revisions below this one cannot be read; −1 if nothing was ever compacted.
    pub compacted: i64,
}

impl Default for Marks {
    fn default() -> Self {
        Self { revision: 1, compacted: -1 }
    }
}

impl Marks {
    /// Takes a row of the meta table; false if it is not about this.
    pub fn load_row(&mut self, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        let mark = match key {
            meta_key::REVISION => &mut self.revision,
            meta_key::COMPACTED => &mut self.compacted,
            _ => return Ok(false),
        };
        let stored = value.try_into().map(i64::from_be_bytes).map_err(|_| row::damaged("meta"))?;
        if !(-1..=MAX_REVISION).contains(&stored) {
            return Err(row::damaged("meta"));
        }
        *mark = stored;
        Ok(true)
    }
}

/// Whatever is readable now, and whatever comes, stays while this lives.
pub struct Retained<B> {
    pin: Pin<B>,
}

/// Versions that are being read.
pub struct Versions<B> {
    pin: Pin<B>,
    marks: Marks,
    /// Where the next piece begins; `None` at the end.
    next: Option<Vec<u8>>,
    /// The key at hand, escaped and as clients know it.
    escaped: Vec<u8>,
    key: Vec<u8>,
    /// Of the key at hand, no older version can be read.
    kept_oldest: bool,
}

impl<B: Backend> Store<B> {
    /// From now on no version that can be read is removed.
    pub fn retain(&self) -> Result<Retained<B>, ReadError> {
        loop {
            match self.pin(self.compacted().max(1)) {
                // Another compaction has come in between.
                Err(ReadError::Compacted) => {}
                pin => return Ok(Retained { pin: pin? }),
            }
        }
    }
}

impl<B: Backend> Retained<B> {
    /// The versions of a moment after they began to be retained: all revisions from the compacted one to the newest.
    #[must_use]
    pub fn versions(self, marks: Marks) -> Versions<B> {
        let (escaped, key) = (Vec::new(), Vec::new());
        Versions { pin: self.pin, marks, next: Some(Vec::new()), escaped, key, kept_oldest: false }
    }
}

impl<B: Backend> Versions<B> {
    /// Reads about `bytes` further. `take` gets each version there: its revision, whether it is a delete, and its
    /// `mvccpb.KeyValue`, of which a delete has the key only. False at the end.
    pub fn next_piece<E: From<StorageError>>(
        &mut self,
        bytes: usize,
        mut take: impl FnMut(Revision, bool, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(from) = self.next.take() else { return Ok(false) };
        let mut cursor = self.pin.shared.backend.cursor_for_many(Table::History, None);
        cursor.seek(&from)?;
        let mut encoded = BytesMut::new();
        let mut read = 0;
        while let Some((raw, value)) = cursor.row() {
            if read >= bytes {
                self.next = Some(raw.to_vec());
                return Ok(true);
            }
            read += raw.len() + value.len();
            let (escaped, at) = split_history_key(raw).ok_or_else(|| damaged_key("history"))?;
            if escaped != self.escaped.as_slice() {
                self.key = user_key(escaped)?;
                self.escaped.clear();
                self.escaped.extend_from_slice(escaped);
                self.kept_oldest = false;
            }
            if at.main <= self.marks.revision && !self.kept_oldest {
                self.kept_oldest = at.main <= self.marks.compacted;
                encoded.clear();
                match row::decode_version(value, at)? {
                    Some((meta, value_at)) => {
                        put_version(&mut encoded, &self.key, &meta, &value[value_at..]);
                        take(at, false, &encoded)?;
                    }
                    // A delete below the compaction is as good as gone.
                    None if at.main >= self.marks.compacted => {
                        put_version(&mut encoded, &self.key, &KeyMeta::default(), &[]);
                        take(at, true, &encoded)?;
                    }
                    None => {}
                }
            }
            cursor.step()?;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keelson_api::mvccpb::KeyValue;
    use prost::Message;

    use super::*;
    use crate::key::{revision_key, split_revision_key};
    use crate::{MemoryBackend, Writer};

    fn key(i: i64) -> Bytes {
        Bytes::from(format!("k{}\0", i % 7))
    }

    fn write(w: &mut Writer<MemoryBackend>, rounds: std::ops::Range<i64>) {
        for i in rounds {
            if i % 5 == 3 {
                w.delete(key(i));
            } else {
                w.put(key(i), Bytes::from(vec![b'v'; usize::try_from(i).unwrap()]), 0);
                w.put(Bytes::from_static(b"twice"), Bytes::from_static(b"x"), 7);
            }
            w.finish();
        }
        w.commit().unwrap();
    }

    fn marks(store: &Store<MemoryBackend>) -> Marks {
        let mut marks = Marks::default();
        let mut cursor = store.backend().cursor(Table::Meta, None);
        cursor.seek(&[]).unwrap();
        while let Some((key, value)) = cursor.row() {
            marks.load_row(key, value).unwrap();
            cursor.step().unwrap();
        }
        marks
    }

    type Found = Vec<(Revision, bool, KeyValue)>;

    fn all(mut versions: Versions<MemoryBackend>, piece: usize) -> Found {
        let mut found = Found::new();
        let mut goes_on = true;
        while goes_on {
            goes_on = versions
                .next_piece::<StorageError>(piece, |at, deleted, kv| {
                    found.push((at, deleted, KeyValue::decode(kv).unwrap()));
                    Ok(())
                })
                .unwrap();
        }
        found.sort_by_key(|(at, ..)| *at);
        found
    }

    #[test]
    fn versions_of_a_moment_stay_whatever_is_written_compacted_and_removed_after_it() {
        let store = Store::open(MemoryBackend::default()).unwrap();
        let mut w = Writer::new(&store);
        write(&mut w, 0..40);
        w.compact(20).unwrap();
        w.commit().unwrap();
        let at = marks(&store);
        assert_eq!((at.revision, at.compacted), (store.revision(), 20));
        let want = all(store.retain().unwrap().versions(at), usize::MAX);
        let begun = [1, 100, 10_000].map(|piece| (piece, store.retain().unwrap().versions(at)));
        write(&mut w, 40..80);
        w.compact(60).unwrap();
        w.commit().unwrap();
        while !store.remove_step(3).unwrap().held {}
        for (piece, versions) in begun {
            assert_eq!(all(versions, piece), want, "{piece}");
        }
        while !store.remove_step(3).unwrap().done {}
    }

    #[test]
    fn there_is_one_version_of_each_live_key_at_the_compaction_and_every_change_since() {
        let store = Store::open(MemoryBackend::default()).unwrap();
        let mut w = Writer::new(&store);
        write(&mut w, 0..40);
        w.compact(20).unwrap();
        w.commit().unwrap();
        let found = all(store.retain().unwrap().versions(marks(&store)), 50);
        for (at, deleted, kv) in &found {
            if *deleted {
                assert_eq!(*kv, KeyValue { key: kv.key.clone(), ..KeyValue::default() });
                assert!(at.main >= 20);
            } else {
                assert_eq!(kv.mod_revision, at.main);
                let same = store.version(&kv.key, *at, crate::ReadMode::Blocking).unwrap();
                assert_eq!(same.as_ref(), Some(kv));
            }
            if at.main <= 20 {
                assert_eq!(found.iter().filter(|(other, _, o)| other.main <= 20 && o.key == kv.key).count(), 1);
            }
        }
        let mut changes = Vec::new();
        let mut cursor = store.backend().cursor(Table::Revisions, None);
        cursor.seek(&revision_key(21, 0)).unwrap();
        while let Some((raw, _)) = cursor.row() {
            changes.extend(split_revision_key(raw).map(|(main, sub)| Revision::new(main, sub)));
            cursor.step().unwrap();
        }
        assert!(changes.len() > 20);
        assert_eq!(found.iter().map(|(at, ..)| *at).filter(|at| at.main > 20).collect::<Vec<_>>(), changes);
    }
}
