//! What a store is told of a backup beside its data: the manifest, and how far its log has got.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::BackupError;
use super::store::Store;

/// What this program writes. A manifest of a newer one is not understood.
pub(super) const FORMAT: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const MARK: &str = "reached.json";
pub(super) const SNAPSHOT: &str = "snapshot.db";
/// Bytes of a manifest or a mark.
const LARGEST: u64 = 1 << 20;

/// A sum of all keys that a member told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HashKv {
    /// The sum.
    pub hash: u32,
    /// The revision it is of.
    pub revision: i64,
    /// What the member was compacted to; −1 if it was not.
    pub compacted: i64,
}

/// What is in a backup. It is written when all of that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Format of the backup.
    pub format: u32,
    /// Name of its folder.
    pub id: String,
    /// The cluster, in hexadecimal digits as all ids.
    pub cluster_id: String,
    /// The member that made the snapshot.
    pub member_id: String,
    /// Where that was found.
    pub endpoint: String,
    /// Version that it told with the snapshot.
    pub server_version: String,
    /// When the snapshot began to arrive: nothing in it is younger.
    pub time: Timestamp,
    /// When the manifest was written.
    pub ended: Timestamp,
    /// Newest revision of the snapshot.
    pub revision: i64,
    /// What its history begins with; −1 if nothing was compacted.
    pub compacted: i64,
    /// Keys that are there at the newest revision.
    pub total_key: u64,
    /// Bytes of the snapshot.
    pub size: u64,
    /// SHA-256 of the snapshot, as the store has it.
    pub sha256: String,
    /// CRC-32C of its rows, as `snapshot status` tells it.
    pub hash: String,
    /// Version of the snapshot's format.
    pub storage_version: String,
    /// Fingerprints of the last transactions, as far as the snapshot has them; that at `revision` is the last.
    pub last_changes: Vec<String>,
    /// How often users and roles had been changed, if the cluster told that.
    pub auth_revision: Option<u64>,
    /// What the member told of its keys at this revision.
    pub hash_kv: Option<HashKv>,
    /// A log of changes follows it.
    pub continuous: bool,
    /// The program that made it.
    pub made_by: String,
}

/// How far a log has got. Told again and again, in the same place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// At `time` this was the newest revision of the cluster.
    pub revision: i64,
    /// When that was.
    pub time: Timestamp,
    /// The process that writes.
    pub writer: String,
}

impl Manifest {
    pub(super) async fn read(store: &Store, id: &str) -> Result<Result<Self, String>, BackupError> {
        let found: Result<Self, String> = match read(store, &format!("{id}/{MANIFEST}")).await? {
            Some(found) => found,
            None => Err("its manifest is gone".into()),
        };
        Ok(found.and_then(|manifest| match manifest.format {
            FORMAT if manifest.id == id => Ok(manifest),
            FORMAT => Err(format!("its manifest is that of backup {}", manifest.id)),
            newer => Err(format!("it has format {newer}, and this program knows {FORMAT}: use a newer keelsonctl")),
        }))
    }
}

impl Mark {
    /// The mark of a backup; none if there is none, or none that can be understood.
    pub async fn read(store: &Store, id: &str) -> Result<Option<Self>, BackupError> {
        Ok(read(store, &format!("{id}/{MARK}")).await?.and_then(Result::ok))
    }

    /// Replaces the mark of a backup.
    pub async fn write(&self, store: &Store, id: &str) -> Result<(), BackupError> {
        store.write(&format!("{id}/{MARK}"), json(self)).await
    }
}

pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("numbers and texts can be written as JSON")
}

async fn read<T: DeserializeOwned>(store: &Store, path: &str) -> Result<Option<Result<T, String>>, BackupError> {
    let Some(bytes) = store.read(path, LARGEST).await? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&bytes).map_err(|e| format!("{path} cannot be understood: {e}"))))
}

/// An id that comes after `newest`, whatever the clock says, and that nobody else has.
pub(super) fn new_id(newest: u64, time: Timestamp) -> String {
    format!("{:08}-{}-{:08x}", newest.saturating_add(1), time.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u32>())
}

/// The number that an id begins with; none if it is no id.
pub(super) fn number_of(id: &str) -> Option<u64> {
    let mut parts = id.split('-');
    let (number, time, mark) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = number.len() >= 8 && time.len() == 16 && mark.len() == 8 && parts.next().is_none();
    number.parse().ok().filter(|_| is_id && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_when_the_clock_is_set_back() {
        let late: Timestamp = "2026-11-23T22:00:00Z".parse().unwrap();
        let early: Timestamp = "1999-01-01T00:00:00Z".parse().unwrap();
        let first = new_id(0, late);
        assert!(first.starts_with("00000001-20261123T220000Z-"), "{first}");
        let second = new_id(number_of(&first).unwrap(), early);
        assert!(second > first && number_of(&second) == Some(2), "{second}");
        assert_ne!(new_id(0, late), first);
        for no_id in ["", "lost+found", "00000001", "1-20261123T220000Z-00000000", "+0000001-20261123T220000Z-00000000"] {
            assert_eq!(number_of(no_id), None, "{no_id}");
        }
    }
}
