//! Whether the file system of the data directory is about to run out. Writes are refused before it
//! does, while there is still room for the log, for compaction, and for removing what fills it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::StatVfs;

/// How long an answer is good for.
const FRESH: Duration = Duration::from_millis(50);
/// Bytes that are kept free on a file system large enough for that. It must be more than all write
/// buffers together: after a crash, opening RocksDB writes its logs into tables, up to that sum, before
/// anything can be removed.
const RESERVE: u64 = 1 << 30;

/// Free space of one file system, asked for at most every so often.
pub struct Disk {
    path: PathBuf,
    start: Instant,
    /// Milliseconds since `start` of the last look.
    looked: AtomicU64,
    low: AtomicBool,
}

/// Bytes that shall stay free: a twentieth, or 1 GiB if that is more; but never more than a fifth,
/// so that small volumes can be used at all.
const fn reserve(total: u64) -> u64 {
    let wanted = if total / 20 > RESERVE { total / 20 } else { RESERVE };
    if wanted > total / 5 { total / 5 } else { wanted }
}

impl Disk {
    /// The file system that holds `path`.
    pub fn of(path: PathBuf) -> Self {
        Self { path, start: Instant::now(), looked: AtomicU64::new(u64::MAX), low: AtomicBool::new(false) }
    }

    /// Whether too little is left to accept data.
    pub fn is_low(&self) -> bool {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        let looked = self.looked.load(Ordering::Relaxed);
        if looked == u64::MAX || now.saturating_sub(looked) as u128 >= FRESH.as_millis() {
            self.looked.store(now, Ordering::Relaxed);
            // A file system that cannot be asked says so at the next write, which is not swallowed.
            let low = rustix::fs::statvfs(&self.path).is_ok_and(|s| is_low(&s));
            self.low.store(low, Ordering::Relaxed);
        }
        self.low.load(Ordering::Relaxed)
    }

    /// Whether so many bytes can be written without the disk becoming low by them.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        let left = |s: StatVfs| free(&s).checked_sub(bytes).is_some_and(|left| left >= reserve(total(&s)));
        // A file system that cannot be asked says so at the write.
        rustix::fs::statvfs(&self.path).map_or(true, left)
    }
}

fn is_low(s: &StatVfs) -> bool {
    free(s) < reserve(total(s))
}

const fn free(s: &StatVfs) -> u64 {
    s.f_bavail.saturating_mul(s.f_frsize)
}

const fn total(s: &StatVfs) -> u64 {
    s.f_blocks.saturating_mul(s.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_grows_with_the_disk_and_leaves_small_ones_usable() {
        const GIB: u64 = 1 << 30;
        assert_eq!([GIB, 5 * GIB, 10 * GIB, 20 * GIB, 100 * GIB].map(reserve), [GIB / 5, GIB, GIB, GIB, 5 * GIB]);
    }
}
