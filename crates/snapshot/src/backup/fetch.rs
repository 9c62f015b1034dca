//! Brings what is to be restored from a store to files here, and holds every byte against the sums in manifest and names.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::BackupError;
use super::catalog::Target;
use super::manifest::SNAPSHOT;
use super::segment::{LARGEST, Segment, SegmentName};
use super::store::{Store, hex};
use crate::Replay;

/// What can be restored. The files are gone when this is.
#[derive(Debug)]
pub struct Fetched {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// What is to follow it.
    pub replay: Replay,
    _folder: TempDir,
}

/// Fetches all of a target to a folder of its own in `folder`.
pub async fn fetch(store: &Store, target: &Target, folder: &Path) -> Result<Fetched, BackupError> {
    let failed = |source: io::Error| BackupError::Folder { path: folder.to_owned(), source };
    let own = TempDir::with_prefix_in(".keelson-restore-", folder).map_err(failed)?;
    let manifest = &target.manifest;
    let damaged = |reason: String| BackupError::Damaged { id: manifest.id.clone(), reason };

    let snapshot = own.path().join(SNAPSHOT);
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&snapshot).map_err(failed)?);
    let mut hash = Sha256::new();
    let take = |bytes: &[u8]| {
        hash.update(bytes);
        file.write_all(bytes)
    };
    let size = store.read_through(&format!("{}/{SNAPSHOT}", manifest.id), take).await?;
    file.flush().map_err(failed)?;
    drop(file);
    if size != manifest.size {
        return Err(damaged(format!("its snapshot has {size} bytes, and should have {}", manifest.size)));
    }
    if hex(&hash.finalize()) != manifest.sha256 {
        return Err(damaged("its snapshot has other bytes than were written".into()));
    }

    let mut segments = Vec::new();
    for (number, name) in target.log.iter().enumerate() {
        let (bytes, _) = read(store, &manifest.id, name).await?;
        let path = own.path().join(format!("{number:06}"));
        fs::write(&path, &bytes).map_err(failed)?;
        segments.push(path);
    }
    let replay = Replay { segments, until: target.revision, hashes: manifest.hash_kv.into_iter().collect() };
    Ok(Fetched { snapshot, replay, _folder: own })
}

/// One segment of a backup.
pub async fn read_segment(store: &Store, id: &str, name: &SegmentName) -> Result<Segment, BackupError> {
    read(store, id, name).await.map(|(_, segment)| segment)
}

async fn read(store: &Store, id: &str, name: &SegmentName) -> Result<(Bytes, Segment), BackupError> {
    let path = name.path(id);
    let damaged = |reason: String| BackupError::Damaged { id: id.to_owned(), reason: format!("{path}: {reason}") };
    let bytes = store.read(&path, LARGEST).await?.ok_or_else(|| damaged("it is gone".into()))?;
    let segment = Segment::decode(name, &bytes).map_err(damaged)?;
    Ok((bytes, segment))
}
