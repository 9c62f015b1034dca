//! Backups in object stores. A backup is a folder there: a snapshot, a manifest that says what is in it and is written
//! last, and, if it is continuous, a log of what happened after the snapshot (`docs/formats/backup.md`).
//!
//! [`Catalog`] is what there is in a store, [`Making`] a backup that is being made, [`Recorder`] what collects changes for a
//! log, and [`Fetched`] what has been brought here to be restored. Who talks to the cluster is not in here.

mod catalog;
mod clock;
mod create;
mod facts;
mod fetch;
#[cfg(test)]
mod fuzz;
mod manifest;
mod record;
mod segment;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use crate::SnapshotError;

pub use catalog::{Backup, Catalog, Keep, Reach, State, Target, Until};
pub use clock::Clock;
pub use create::{About, Made, Making};
pub use fetch::{Fetched, fetch, read_segment};
pub use manifest::{HashKv, Manifest, Mark};
pub use record::{Anchor, NotNext, Recorder};
pub use segment::{Lease, Segment, SegmentName, Transaction};
pub use store::{Access, Store};

/// Why something cannot be done with backups.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BackupError {
    #[error("{0}")]
    Address(String),
    #[error("cannot {what} in {store}: {reason}")]
    Store { store: String, what: String, reason: String },
    #[error("backup {id} is damaged: {reason}; use another one")]
    Damaged { id: String, reason: String },
    #[error("{0}")]
    Asked(String),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("cannot use the folder {path} for what is on its way: {source}; name one with space by --folder")]
    Folder { path: PathBuf, source: io::Error },
}
