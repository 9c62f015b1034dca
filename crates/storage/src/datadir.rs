//! The data directory: who it belongs to, who has it open, and in which format it is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use keelson_api::format;
use serde::{Deserialize, Serialize};

use crate::incoming::Arrived;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DataDirError {
    #[error("cannot use data directory {path}: {source}; check that it exists, is writable and has space")]
    Io { path: PathBuf, source: io::Error },
    #[error("data directory {0} is in use by another process; stop it, or choose another --data-dir")]
    InUse(PathBuf),
    #[error(
        "data directory {path} holds the data of another program ({found}); to move etcd data here take a snapshot with \
         `etcdctl snapshot save` and restore it with `keelsonctl snapshot restore`, or choose an empty --data-dir"
    )]
    Foreign { path: PathBuf, found: String },
    #[error(
        "data directory {path} has format {found}, this build understands up to {}; {} on it",
        format::newest(),
        format::ADVICE
    )]
    TooNew { path: PathBuf, found: u32 },
    #[error("data directory {0} is not empty; choose another --data-dir to restore to, or empty this one")]
    NotEmpty(PathBuf),
    #[error(
        "the log of this member is in {present}, and not in {wanted}, where --wal-dir wants it; leave the flag out, or stop \
         the member, move the folder there, and make `log` in its data directory a link to it"
    )]
    LogElsewhere { present: PathBuf, wanted: PathBuf },
    #[error("{path} holds a log already, and not that of data directory {data_dir}; choose another --wal-dir, or empty this one")]
    LogTaken { path: PathBuf, data_dir: PathBuf },
    #[error("restoring a snapshot to data directory {0} has not come to its end; restore it again")]
    HalfRestored(PathBuf),
    #[error(
        "{path} is damaged: {reason}; restore the file from a backup, or remove this member from the cluster, empty its \
         data directory and add it again"
    )]
    Damaged { path: PathBuf, reason: String },
}

/// There while the directory is being filled from a snapshot.
const RESTORING: &str = "restoring";
/// What an empty directory may have: its own lock, and what file systems put in their root.
const NO_DATA: [&str; 2] = ["LOCK", "lost+found"];

/// Who the data belongs to; written once, when the directory is first used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Format of everything in the directory: the cluster's. Nothing older than it may open the directory.
    pub format: u32,
    /// Random, never replicated: tells a restart from a replaced volume.
    pub uuid: String,
    /// Cluster the member belongs to.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// It came to a cluster that ran already: its log, and not its flags, says who belongs to it.
    #[serde(default)]
    pub joined: bool,
}

/// As much of an identity as every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Identity {
    /// An identity in the format that every cluster begins with.
    #[must_use]
    pub const fn new(uuid: String, cluster_id: u64, member_id: u64) -> Self {
        Self { format: format::OLDEST, uuid, cluster_id, member_id, joined: false }
    }
}

/// Whether a snapshot may be restored to a directory: it is not there, holds nothing, or what was begun of a restore.
fn is_free(path: &Path) -> io::Result<bool> {
    if path.join(RESTORING).exists() && !path.join("identity.json").exists() {
        return Ok(true);
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(e),
    };
    for entry in entries {
        if !NO_DATA.iter().any(|name| entry.as_ref().is_ok_and(|e| e.file_name() == *name)) {
            entry?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// An open data directory; the lock is held as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, creating it with mode 0700 if needed, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        for etcd in ["member/wal", "member/snap"] {
            if path.join(etcd).exists() {
                return Err(DataDirError::Foreign { path: path.to_owned(), found: format!("etcd's {etcd}") });
            }
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("LOCK")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(e)) => Err(failed(e)),
        }
    }

    /// Refuses a directory that no snapshot may be restored to.
    pub fn expect_free(path: &Path) -> Result<(), DataDirError> {
        match is_free(path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(DataDirError::NotEmpty(path.to_owned())),
            Err(source) => Err(DataDirError::Io { path: path.to_owned(), source }),
        }
    }

    /// Opens a directory that is to be filled from a snapshot: an empty one, or one where that has been begun before.
    /// Nobody takes it for a whole one until [`DataDir::finish_restore`] has been called.
    pub fn begin_restore(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io { path: path.to_owned(), source };
        Self::expect_free(path)?;
        let dir = Self::open(path)?;
        // Somebody else may have been faster.
        Self::expect_free(path)?;
        let renew = || {
            File::create(path.join(RESTORING))?.sync_all()?;
            File::open(path)?.sync_all()?;
            for begun in [dir.log(), dir.state()] {
                if begun.is_dir() {
                    fs::remove_dir_all(begun)?;
                }
            }
            Ok(())
        };
        renew().map_err(failed)?;
        Ok(dir)
    }

    /// Everything has been restored and is on disk: the directory belongs to `identity` from now on.
    pub fn finish_restore(&self, identity: &Identity) -> Result<(), DataDirError> {
        self.claim(identity)?;
        let clear = || {
            fs::remove_file(self.path.join(RESTORING))?;
            File::open(&self.path)?.sync_all()
        };
        clear().map_err(|source| DataDirError::Io { path: self.path.clone(), source })
    }

    /// Where the raft log lives.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the state lives.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// A state from another member that waits to be put in place.
    pub fn arrived(&self) -> Result<Option<Arrived>, DataDirError> {
        Arrived::find(&self.path).map_err(|source| DataDirError::Io { path: self.path.clone(), source })
    }

    /// Where checkpoints for other members are made; what an earlier process left there goes.
    pub fn checkpoints(&self) -> Result<PathBuf, DataDirError> {
        let path = self.path.join("checkpoints");
        let renew = || {
            if path.is_dir() {
                fs::remove_dir_all(&path)?;
            }
            DirBuilder::new().mode(0o700).create(&path)
        };
        renew().map_err(|source| DataDirError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    fn identity_path(&self) -> PathBuf {
        self.path.join("identity.json")
    }

    /// Who the directory belongs to; `None` if it was never used.
    pub fn identity(&self) -> Result<Option<Identity>, DataDirError> {
        let path = self.identity_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if self.path.join(RESTORING).exists() {
                    return Err(DataDirError::HalfRestored(self.path.clone()));
                }
                let used = |folder: PathBuf| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
                if used(self.log()) || used(self.state()) {
                    let reason = "it is missing, but there is data beside it".into();
                    return Err(DataDirError::Damaged { path, reason });
                }
                return Ok(None);
            }
            Err(source) => return Err(DataDirError::Io { path, source }),
        };
        let identity = self.parse_identity(&text)?;
        // Between two renames the new state is in place and the old one gone.
        let swapping = self.arrived()?.is_some();
        for folder in [self.log(), self.state()] {
            let may_be_gone = swapping && folder == self.state();
            if folder.is_symlink() {
                self.log_is_there()?;
            }
            if !folder.is_dir() && !may_be_gone {
                return Err(DataDirError::Damaged { path: folder, reason: "the folder is missing".into() });
            }
        }
        Ok(Some(identity))
    }

    fn parse_identity(&self, text: &[u8]) -> Result<Identity, DataDirError> {
        let damaged = |reason: String| DataDirError::Damaged { path: self.identity_path(), reason };
        // The format first: a newer one may have other fields.
        let Format { format } = serde_json::from_slice(text).map_err(|e| damaged(e.to_string()))?;
        match format {
            0 => Err(damaged("there is no format 0".into())),
            _ if format <= format::newest() => serde_json::from_slice(text).map_err(|e| damaged(e.to_string())),
            _ => Err(DataDirError::TooNew { path: self.path.clone(), found: format }),
        }
    }

    /// From now on nothing older than `format` may open the directory.
    pub fn raise(&self, format: u32) -> Result<(), DataDirError> {
        match self.identity()? {
            Some(identity) if identity.format < format => self.claim(&Identity { format, ..identity }),
            _ => Ok(()),
        }
    }

    /// Makes the directory belong to `identity`, durably.
    pub fn claim(&self, identity: &Identity) -> Result<(), DataDirError> {
        let path = self.identity_path();
        let write = || {
            // RocksDB syncs what is in its folders, but not that they exist.
            for folder in [self.log(), self.state()] {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let temporary = self.path.join("identity.json.tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(identity)?)?;
            file.sync_all()?;
            // The folders must be there whenever the identity is.
            File::open(&self.path)?.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.path)?.sync_all()?;
            let absolute = std::path::absolute(&self.path)?;
            absolute.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
        };
        write().map_err(|source| DataDirError::Io { path: path.clone(), source })
    }
}

mod place;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_claimed_once_and_refused_when_foreign_damaged_or_newer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let open = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
        assert_eq!(open.identity().unwrap(), None);
        let identity = Identity::new("u".into(), 1, u64::MAX);
        open.claim(&identity).unwrap();
        assert_eq!(open.identity().unwrap(), Some(identity.clone()));

        open.raise(identity.format).unwrap();
        assert_eq!(open.identity().unwrap(), Some(identity));
        let newer = format::newest() + 1;
        open.raise(newer).unwrap();
        let refused = open.identity().unwrap_err();
        assert!(matches!(refused, DataDirError::TooNew { found, .. } if found == newer));
        assert!(refused.to_string().contains(format::ADVICE), "{refused}");
        fs::write(path.join("identity.json"), format!("{{\"format\": {newer}, \"cluster\": {{}}}}")).unwrap();
        assert!(matches!(open.identity(), Err(DataDirError::TooNew { .. })), "whatever else a newer format holds");
        fs::write(path.join("identity.json"), "{").unwrap();
        assert!(matches!(open.identity(), Err(DataDirError::Damaged { .. })));
        fs::remove_file(path.join("identity.json")).unwrap();
        fs::write(path.join("state/CURRENT"), "x").unwrap();
        assert!(matches!(open.identity(), Err(DataDirError::Damaged { .. })));
        drop(open);

        fs::create_dir_all(path.join("member/wal")).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::Foreign { .. })));
    }

    #[test]
    fn a_directory_is_restored_to_when_it_is_empty_and_used_only_when_that_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let identity = Identity::new("u".into(), 1, 2);
        let begun = DataDir::begin_restore(&path).unwrap();
        assert!(matches!(DataDir::begin_restore(&path), Err(DataDirError::InUse(_))));
        fs::create_dir(begun.state()).unwrap();
        fs::write(begun.state().join("CURRENT"), "x").unwrap();
        drop(begun);
        let half = DataDir::open(&path).unwrap();
        assert!(matches!(half.identity(), Err(DataDirError::HalfRestored(_))));
        drop(half);

        let again = DataDir::begin_restore(&path).unwrap();
        assert!(!again.state().exists());
        again.finish_restore(&identity).unwrap();
        drop(again);
        let whole = DataDir::open(&path).unwrap();
        assert_eq!(whole.identity().unwrap(), Some(identity));
        drop(whole);
        assert!(matches!(DataDir::begin_restore(&path), Err(DataDirError::NotEmpty(_))));

        let other = dir.path().join("other");
        fs::create_dir_all(other.join("lost+found")).unwrap();
        drop(DataDir::begin_restore(&other).unwrap());
        fs::remove_file(other.join(RESTORING)).unwrap();
        fs::write(other.join("notes"), "x").unwrap();
        assert!(matches!(DataDir::begin_restore(&other), Err(DataDirError::NotEmpty(_))));
        assert!(!other.join(RESTORING).exists());
    }
}
