//! Makes a backup: what arrives goes to the store and, at the same time, to a file here, which is read when all of it has
//! come. Only of what turned out to be a whole snapshot is a manifest written.

use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use tempfile::NamedTempFile;

use super::BackupError;
use super::facts::facts;
use super::manifest::{FORMAT, HashKv, MANIFEST, Manifest, SNAPSHOT, json, new_id};
use super::record::Anchor;
use super::store::{Store, Upload};
use crate::SnapshotError;

/// A backup that is being made.
#[derive(Debug)]
pub struct Making {
    store: Store,
    id: String,
    upload: Upload,
    file: NamedTempFile,
    time: Option<Timestamp>,
}

/// Who told what is in the backup.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// Where that was found.
    pub endpoint: String,
    /// Version that it told.
    pub server_version: String,
    /// How often users and roles had been changed, asked before the snapshot.
    pub auth_revision: Option<u64>,
    /// What it told of its keys.
    pub hash_kv: Option<HashKv>,
    /// A log is to follow.
    pub continuous: bool,
    /// The program that asks.
    pub made_by: String,
}

/// A backup whose snapshot is in the store, without a manifest.
#[derive(Debug)]
pub struct Made {
    store: Store,
    manifest: Manifest,
}

/// Now, in whole milliseconds, as all times that can be asked for; not before it is.
fn arrival() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond() + 1).unwrap_or(now)
}

impl Making {
    /// Begins a backup that comes after number `newest`. What arrives is kept in `folder` for a while.
    pub async fn begin(store: &Store, newest: u64, folder: &Path) -> Result<Self, BackupError> {
        let id = new_id(newest, Timestamp::now());
        let file = NamedTempFile::with_prefix_in(".keelson-backup-", folder);
        let file = file.map_err(|source| BackupError::Folder { path: folder.to_owned(), source })?;
        let upload = store.upload(format!("{id}/{SNAPSHOT}")).await?;
        Ok(Self { store: store.clone(), id, upload, file, time: None })
    }

    /// Adds what has arrived.
    pub async fn add(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.time.get_or_insert_with(arrival);
        let written = self.file.write_all(bytes);
        written.map_err(|source| BackupError::Folder { path: self.file.path().to_owned(), source })?;
        self.upload.add(bytes).await
    }

    /// Gives it up.
    pub async fn abort(self) {
        self.upload.abort().await;
    }

    /// Everything has arrived.
    pub async fn finish(self) -> Result<Made, BackupError> {
        let Self { store, id, upload, file, time } = self;
        let path = file.path().to_owned();
        // Reads for long: what is still on its way to the store must not be held up by that.
        let read = tokio::task::spawn_blocking(move || facts(&path)).await;
        let read = read.unwrap_or_else(|_| Err(SnapshotError::Options("the snapshot could not be read to its end".into())));
        let facts = match read {
            Ok(facts) => facts,
            Err(e) => {
                upload.abort().await;
                return Err(e.into());
            }
        };
        let (size, sha256) = upload.finish().await?;
        let time = time.unwrap_or_else(arrival);
        let manifest = Manifest {
            format: FORMAT,
            id,
            cluster_id: String::new(),
            member_id: String::new(),
            endpoint: String::new(),
            server_version: String::new(),
            time,
            ended: time,
            revision: facts.revision,
            compacted: facts.compacted,
            total_key: facts.status.total_key as u64,
            size,
            sha256,
            hash: format!("{:x}", facts.status.hash),
            storage_version: facts.status.version,
            last_changes: facts.last_changes,
            auth_revision: None,
            hash_kv: None,
            continuous: false,
            made_by: String::new(),
        };
        Ok(Made { store, manifest })
    }
}

impl Made {
    /// The revision that the snapshot is of.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.manifest.revision
    }

    /// Writes the manifest: from now on it is a backup.
    pub async fn publish(self, about: About) -> Result<Manifest, BackupError> {
        let manifest = Manifest {
            cluster_id: format!("{:x}", about.cluster_id),
            member_id: format!("{:x}", about.member_id),
            endpoint: about.endpoint,
            server_version: about.server_version,
            auth_revision: about.auth_revision,
            hash_kv: about.hash_kv.filter(|told| told.revision == self.manifest.revision),
            continuous: about.continuous,
            made_by: about.made_by,
            ended: Timestamp::now(),
            ..self.manifest
        };
        let path = format!("{}/{MANIFEST}", manifest.id);
        let written = self.store.write(&path, json(&manifest)).await;
        // Who tries again makes another one, and half of one is large. It may be there all the same: then it goes first.
        if written.is_err() && self.store.delete(vec![path]).await.is_ok() {
            let _ = self.store.delete(vec![format!("{}/{SNAPSHOT}", manifest.id)]).await;
        }
        written.map(|()| manifest)
    }
}

impl Manifest {
    /// Where a log that follows the snapshot begins.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor { revision: self.revision, fingerprints: self.last_changes.clone() }
    }
}
