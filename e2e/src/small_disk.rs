//! A file system of a few megabytes, to be filled: a tmpfs, which needs the right to mount.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// The file that takes the room away.
const BALLAST: &str = "ballast";

/// Mounted until dropped.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    pub fn mount(bytes: u64) -> Result<Self> {
        let dir = TempDir::with_prefix("keelson-disk-")?;
        let size = CString::new(format!("size={bytes}"))?;
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(size.as_c_str()))
            .context("mounting a tmpfs: this test needs root, or CAP_SYS_ADMIN")?;
        Ok(Self { dir })
    }

    /// Where a program may put its data.
    pub fn data_dir(&self) -> Result<PathBuf> {
        let dir = self.dir.path().join("data");
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    pub fn free(&self) -> Result<u64> {
        let stat = statvfs(self.dir.path())?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes all the room there is, but for so many bytes.
    pub fn leave(&self, bytes: u64) -> Result<()> {
        let taken = self.free()?.saturating_sub(bytes);
        let ballast = File::create(self.ballast())?;
        // What a program writes meanwhile may have been faster.
        let _ = fallocate(&ballast, FallocateFlags::empty(), 0, taken.max(1));
        Ok(())
    }

    pub fn give_back(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("nothing was taken")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join(BALLAST)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached at once, gone when the last file on it is closed.
        let _ = unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}
