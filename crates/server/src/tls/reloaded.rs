//! Something made from files that may be replaced while the process runs. Each use looks whether they were,
//! which costs a `stat` of each; only then are they read again.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What tells one state of a file from another: a new file under its name, or new contents.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let m = std::fs::metadata(path).ok()?;
    Some((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
}

/// How long the same files are left alone after they could not be used: the reason may have been a passing one, such as too
/// many open files.
const AGAIN: Duration = Duration::from_secs(1);

struct Last<T> {
    /// Of the files that the value was made from.
    stamps: Vec<Stamp>,
    value: T,
    failed: Option<Failed>,
}

/// Files that could not be used.
struct Failed {
    stamps: Vec<Stamp>,
    at: Instant,
    why: String,
}

/// A value and the files it was made from.
pub struct Reloaded<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    last: Mutex<Last<T>>,
}

impl<T: Clone> Reloaded<T> {
    /// Makes the value for the first time.
    pub fn new(files: Vec<PathBuf>, make: impl Fn() -> Result<T, String> + Send + Sync + 'static) -> Result<Self, String> {
        // Before the files are read: a change in between is seen as one.
        let stamps = files.iter().map(|f| stamp(f)).collect();
        let value = make()?;
        Ok(Self { files, make: Box::new(make), last: Mutex::new(Last { stamps, value, failed: None }) })
    }

    /// The value of now. While the files cannot be used, as between the replacement of a certificate and that of its key,
    /// the one before.
    pub fn get(&self) -> T {
        let stamps: Vec<Stamp> = self.files.iter().map(|f| stamp(f)).collect();
        let mut last = self.last.lock();
        let failed = last.failed.as_ref().filter(|f| f.stamps == stamps);
        if last.stamps == stamps || failed.is_some_and(|f| f.at.elapsed() < AGAIN) {
            return last.value.clone();
        }
        match (self.make)() {
            Ok(value) => {
                tracing::info!(files = ?self.files, "certificate files have changed and are in use");
                *last = Last { stamps, value, failed: None };
            }
            Err(why) => {
                if failed.is_none_or(|f| f.why != why) {
                    tracing::warn!(
                        error = why,
                        "certificate files have changed and cannot be used; what was there before is, and they are tried again"
                    );
                }
                last.failed = Some(Failed { stamps, at: Instant::now(), why });
            }
        }
        last.value.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn files_are_read_again_once_when_they_change_and_kept_when_they_are_bad() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "1").unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let (counted, file) = (reads.clone(), path.clone());
        let make = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
            text.parse::<u32>().map_err(|e| e.to_string())
        };
        let value = Reloaded::new(vec![path.clone()], make).unwrap();
        let replace = |text: &str| {
            std::fs::write(folder.path().join("new"), text).unwrap();
            std::fs::rename(folder.path().join("new"), &path).unwrap();
        };
        assert_eq!((value.get(), value.get(), reads.load(Ordering::Relaxed)), (1, 1, 1));
        replace("2");
        assert_eq!((value.get(), value.get(), reads.load(Ordering::Relaxed)), (2, 2, 2));
        replace("x");
        assert_eq!((value.get(), value.get(), reads.load(Ordering::Relaxed)), (2, 2, 3));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(value.get(), 2);
        replace("3");
        assert_eq!(value.get(), 3);
    }

    #[test]
    fn files_that_could_not_be_used_are_tried_again_though_they_have_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "old").unwrap();
        let out_of_files = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (is_out, file) = (out_of_files.clone(), path.clone());
        let make = move || match is_out.load(Ordering::Relaxed) {
            true => Err("too many open files".to_owned()),
            false => std::fs::read_to_string(&file).map_err(|e| e.to_string()),
        };
        let value = Reloaded::new(vec![path.clone()], make).unwrap();
        out_of_files.store(true, Ordering::Relaxed);
        std::fs::write(&path, "newer").unwrap();
        assert_eq!(value.get(), "old");
        out_of_files.store(false, Ordering::Relaxed);
        let deadline = Instant::now() + AGAIN * 10;
        while value.get() != "newer" {
            assert!(Instant::now() < deadline, "they are never tried again");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
