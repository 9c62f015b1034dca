//! What is in a snapshot, in the figures that `etcdutl snapshot status` has.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use keelson_api::mvccpb::KeyValue;
use prost::Message;

use crate::bolt::{Bucket, Database, ReadAt};
use crate::file::SnapshotFile;
use crate::schema::{KEY, META, RevisionKey, STORAGE_VERSION};
use crate::{RowError, SnapshotError};

/// What is in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C of all names of buckets, keys and values.
    pub hash: u32,
    /// Newest revision at which something was changed, and was not compacted since.
    pub revision: i64,
    /// Keys that are there at that revision.
    pub total_key: usize,
    /// Bytes of the database, without the checksum after it.
    pub total_size: u64,
    /// Version of the format: that of the oldest etcd that can read it. Empty before 3.6.
    pub version: String,
}

/// Which keys there are: of each only its hash is held, twice hashed so that no two are ever the same.
struct Keys {
    hashers: [RandomState; 2],
    seen: HashSet<[u64; 2]>,
}

impl Keys {
    fn follow(&mut self, key: &[u8], is_delete: bool) {
        let hash = [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)];
        if is_delete {
            self.seen.remove(&hash);
        } else {
            self.seen.insert(hash);
        }
    }
}

/// etcd's storage versions are numbers and dots: anything else is none.
fn version(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (text.split('.').count() == 3 && text.split('.').all(is_number)).then(|| text.to_owned())
}

/// Looks at all of a snapshot. The checksum at its end, if there is one, is not compared; as etcdutl does not.
pub fn status(path: &Path) -> Result<Status, SnapshotError> {
    let file = SnapshotFile::open(path)?;
    let (database, buckets) = file.database()?;
    read(&database, &buckets).map_err(|e| e.of(file.path()))
}

pub fn read<F: ReadAt + ?Sized>(database: &Database<'_, F>, buckets: &[Bucket]) -> Result<Status, RowError> {
    let mut status = Status { total_size: database.size(), ..Status::default() };
    let mut keys = Keys { hashers: [RandomState::new(), RandomState::new()], seen: HashSet::new() };
    for bucket in buckets {
        status.hash = crc32c::crc32c_append(status.hash, &bucket.name);
        database.visit::<RowError>(bucket, |key, value| {
            status.hash = crc32c::crc32c_append(status.hash, key);
            status.hash = crc32c::crc32c_append(status.hash, value);
            if bucket.name == KEY.as_bytes() {
                let damaged = || RowError::Damaged(format!("the change at {} cannot be decoded", key.escape_ascii()));
                let at = RevisionKey::decode(key).ok_or_else(damaged)?;
                let kv = KeyValue::decode(value).map_err(|_| damaged())?;
                status.revision = at.main;
                keys.follow(&kv.key, at.is_delete);
            } else if bucket.name == META.as_bytes() && key == STORAGE_VERSION {
                status.version = version(value).unwrap_or_default();
            }
            Ok(())
        })?;
    }
    status.total_key = keys.seen.len();
    Ok(status)
}
