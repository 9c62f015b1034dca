//! etcd's snapshot files. [`prepare`] makes one of a state, [`status`] tells what is in one, and [`restore`] makes a data
//! directory of one, whoever has written it; [`backup`] keeps them in object stores. None of them holds more of a file in
//! memory than some tens of megabytes.
//!
//! A file is etcd's v3 backend (bbolt, `bolt`) with etcd's buckets and rows (`schema`), and a SHA-256 of all that
//! after it. What keelson writes is described in `docs/formats/snapshot.md`.

pub mod backup;
mod bolt;
mod cluster;
mod file;
#[cfg(test)]
mod fuzz;
mod replay;
mod restore;
#[cfg(test)]
mod round_trip;
mod save;
mod schema;
mod sort;
mod status;

use std::io;
use std::path::PathBuf;

use keelson_mvcc::{ImportError, StorageError};
use keelson_storage::{DataDirError, LogError};

pub use cluster::NewMember;
pub use replay::Replay;
pub use restore::{RestoreOptions, Restored, expect_free, restore, restore_with};
pub use save::{Prepared, Reading, SaveError, prepare};
pub use status::{Status, status};

/// Why a file cannot be read or restored.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SnapshotError {
    #[error("cannot read snapshot {path}: {source}; check that it exists and is readable")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("snapshot {path} is damaged: {reason}; use another copy of it, or take another snapshot")]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "snapshot {0} has no checksum at its end; if it was copied from a data directory, where there is none, restore it \
         with --skip-hash-check"
    )]
    NoChecksum(PathBuf),
    #[error("{0}")]
    Options(String),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(
        "what has been restored is not what there was: at revision {revision} its keys have sum {found}, and the member had told \
         {told}; use another backup"
    )]
    OtherKeys { revision: i64, told: u32, found: u32 },
    #[error("cannot write what is restored: {0}; check that the disk is in order and has space, then restore again")]
    Write(String),
}

impl From<StorageError> for SnapshotError {
    fn from(e: StorageError) -> Self {
        Self::Write(e.to_string())
    }
}

impl From<LogError> for SnapshotError {
    fn from(e: LogError) -> Self {
        Self::Write(e.to_string())
    }
}

/// What goes wrong between two rows, before it is known of which file that is said.
#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error(transparent)]
    Read(#[from] bolt::ReadError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("{0}")]
    Damaged(String),
}

impl RowError {
    fn of(self, path: &std::path::Path) -> SnapshotError {
        let path = path.to_owned();
        match self {
            Self::Read(bolt::ReadError::Io(source)) => SnapshotError::Unreadable { path, source },
            Self::Read(bolt::ReadError::Damaged(reason)) | Self::Damaged(reason) | Self::Import(ImportError::Damaged(reason)) => {
                SnapshotError::Damaged { path, reason }
            }
            Self::Import(ImportError::Storage(e)) => e.into(),
        }
    }
}
