//! A log on another disk than the rest (`--wal-dir`): in the data directory, `log` is then a link to it. So whoever opens
//! the directory finds the log without being told, and one that is not there is missed rather than begun anew.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use super::{DataDir, DataDirError};

/// The log has the folder below to itself: `lost+found` and the like may lie beside it.
const FOLDER: &str = "log";

impl DataDir {
    /// Puts the log into `folder`. It must be there already, or there must be no log yet.
    pub fn place_log(&self, folder: &Path) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Io { path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        // As long as what the link names: a relative path would be one from the data directory.
        let wanted = fs::canonicalize(folder).map_err(failed)?.join(FOLDER);
        let log = self.log();
        if log.is_symlink() || log.exists() {
            let present = self.log_is_there()?;
            // What it leads to may be written in another way.
            return match fs::canonicalize(&wanted) {
                Ok(wanted) if wanted == present => Ok(()),
                _ => Err(DataDirError::LogElsewhere { present, wanted }),
            };
        }
        let is_used = fs::read_dir(&wanted).is_ok_and(|mut entries| entries.next().is_some());
        if is_used {
            return Err(DataDirError::LogTaken { path: wanted, data_dir: self.path.clone() });
        }
        let begin = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&wanted)?;
            File::open(folder)?.sync_all()?;
            symlink(&wanted, &log)?;
            File::open(&self.path)?.sync_all()
        };
        begin().map_err(failed)
    }

    /// Where the log really is; an error if the link to it leads nowhere, for then its disk is not there yet.
    pub(super) fn log_is_there(&self) -> Result<PathBuf, DataDirError> {
        let log = self.log();
        fs::canonicalize(&log).map_err(|e| {
            let target = fs::read_link(&log).unwrap_or_default();
            let text = format!("the log is in {}, which cannot be reached ({e})", target.display());
            DataDirError::Io { path: self.path.clone(), source: io::Error::new(e.kind(), text) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[test]
    fn a_log_elsewhere_is_found_again_and_neither_moved_nor_begun_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (path, wal) = (dir.path().join("data"), dir.path().join("disk/wal"));
        let open = || DataDir::open(&path).unwrap();
        open().place_log(&wal).unwrap();
        assert_eq!(open().identity().unwrap(), None, "nothing is in it yet");
        let identity = Identity::new("u".into(), 1, 2);
        open().claim(&identity).unwrap();
        fs::write(open().log().join("segment"), "x").unwrap();
        assert!(wal.join("log/segment").is_file());
        open().place_log(&wal).unwrap();
        assert_eq!(open().identity().unwrap(), Some(identity));

        let other = open().place_log(&dir.path().join("other")).unwrap_err();
        assert!(matches!(other, DataDirError::LogElsewhere { .. }), "{other}");
        let second = DataDir::open(&dir.path().join("second")).unwrap();
        let taken = second.place_log(&wal).unwrap_err();
        assert!(matches!(taken, DataDirError::LogTaken { .. }), "{taken}");

        // The disk is not there: no damage, for it may come back.
        fs::rename(dir.path().join("disk"), dir.path().join("gone")).unwrap();
        let missed = open().identity().unwrap_err();
        assert!(matches!(missed, DataDirError::Io { .. }) && missed.to_string().contains("cannot be reached"), "{missed}");
        assert!(matches!(open().place_log(&wal), Err(DataDirError::Io { .. })), "another one is not begun");
    }

    #[test]
    fn a_log_in_the_data_directory_stays_there() {
        let dir = tempfile::tempdir().unwrap();
        let open = DataDir::open(&dir.path().join("data")).unwrap();
        open.claim(&Identity::new("u".into(), 1, 2)).unwrap();
        let refused = open.place_log(&dir.path().join("wal")).unwrap_err().to_string();
        assert!(refused.contains("data/log") && refused.contains("wal/log") && refused.contains("--wal-dir"), "{refused}");
    }
}
