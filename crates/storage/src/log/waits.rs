//! Since when the log has been waiting for the disk, for whoever must not wait with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The age of the write under way.
#[derive(Debug)]
pub struct LogWaits {
    start: Instant,
    /// Microseconds from `start` to the begin of the write under way; `IDLE` while there is none.
    begun: AtomicU64,
}

const IDLE: u64 = u64::MAX;

impl LogWaits {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), begun: AtomicU64::new(IDLE) }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(IDLE - 1)
    }

    pub(super) fn begin(&self) {
        self.begun.store(self.micros(), Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.begun.store(IDLE, Ordering::Relaxed);
    }

    /// How long the write under way has taken so far; zero if there is none.
    #[must_use]
    pub fn so_far(&self) -> Duration {
        match self.begun.load(Ordering::Relaxed) {
            IDLE => Duration::ZERO,
            begun => Duration::from_micros(self.micros().saturating_sub(begun)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_under_way_is_told_by_its_age_and_none_by_zero() {
        let waits = LogWaits::new();
        assert_eq!(waits.so_far(), Duration::ZERO);
        waits.begin();
        while waits.so_far() < Duration::from_millis(1) {
            std::thread::yield_now();
        }
        waits.end();
        assert_eq!(waits.so_far(), Duration::ZERO);
    }
}
