//! A checksum of everything readable from the compacted revision up to a given one. Members with
//! equal logs have equal hashes, however far each got with removing old rows.

use keelson_api::Revision;

use crate::backend::{Backend, Cursor, StorageError, Table};
use crate::key::split_history_key;
use crate::read::{ReadError, damaged_key};
use crate::row;
use crate::store::Store;

/// A checksum and the range of revisions it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashResult {
    /// CRC-32C over keys, revisions and rows in key order.
    pub hash: u32,
    /// Revision it was taken at.
    pub revision: i64,
    /// Compacted revision it starts from.
    pub compacted: i64,
    /// Newest revision when it was taken.
    pub current: i64,
}

impl<B: Backend> Store<B> {
    /// Hashes the history up to `revision` (0: newest). Reads the whole history: call it off the
    /// async threads.
    pub fn hash(&self, revision: i64) -> Result<HashResult, ReadError> {
        loop {
            let current = self.revision();
            let compacted = self.compacted();
            let at = if revision == 0 { current } else { revision };
            if at < compacted {
                return Err(ReadError::Compacted);
            }
            if at > current {
                return Err(ReadError::Future);
            }
            let hash = hash_rows(&self.shared.backend, compacted, at)?;
            // Compacted meanwhile: rows may be gone that this hash should have seen.
            if self.compacted() == compacted {
                return Ok(HashResult { hash, revision: at, compacted, current });
            }
        }
    }
}

/// What [`Store::hash`] tells of `backend` at revision `at`, when the store was compacted up to `compacted`: of one that is
/// compacted further by now, too, as long as nothing of it has been removed.
pub fn hash_rows<B: Backend>(backend: &B, compacted: i64, at: i64) -> Result<u32, StorageError> {
    let mut cursor = backend.cursor(Table::History, None);
    cursor.seek(&[])?;
    // As in etcd the name of the table comes first, so that an empty store has a hash too.
    let mut crc = crc32c::crc32c(b"key");
    let mut key: Vec<u8> = Vec::new();
    let mut kept_oldest = false;
    while let Some((raw, value)) = cursor.row() {
        let (escaped, Revision { main, .. }) = split_history_key(raw).ok_or_else(|| damaged_key("history"))?;
        if escaped != key.as_slice() {
            key.clear();
            key.extend_from_slice(escaped);
            kept_oldest = false;
        }
        if main <= at && !kept_oldest {
            kept_oldest = main <= compacted;
            // A tombstone below the compaction is as good as gone.
            if main >= compacted || !row::is_tombstone(value) {
                crc = crc32c::crc32c_append(crc, raw);
                crc = crc32c::crc32c_append(crc, value);
            }
        }
        cursor.step()?;
    }
    Ok(crc)
}
