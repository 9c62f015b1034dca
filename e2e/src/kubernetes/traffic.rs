//! What the writers, the readers and the test tell each other: when the store is down on purpose,
//! which requests have been answered since, and when to end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use anyhow::{Context, Result, bail};
use tokio::sync::watch;

use crate::kubernetes::client::Answer;
use crate::kubernetes::object::{KINDS, Kind};

#[derive(Debug, Default)]
pub struct Traffic {
    /// Odd while requests may fail.
    phase: AtomicU64,
    restarts: AtomicU64,
    /// For each kind, the last restart after which a write was begun and acknowledged.
    recovered: [AtomicU64; KINDS.len()],
    writes: watch::Sender<u64>,
    excused: AtomicU64,
    stop: AtomicBool,
}

/// When a request began.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    phase: u64,
    restarts: u64,
}

impl Traffic {
    pub fn mark(&self) -> Mark {
        Mark { phase: self.phase.load(SeqCst), restarts: self.restarts.load(SeqCst) }
    }

    /// From now on requests may fail. The restarted store has yet to be announced.
    pub fn outage_begins(&self) {
        self.phase.fetch_or(1, SeqCst);
    }

    pub fn store_restarted(&self) {
        self.restarts.fetch_add(1, SeqCst);
    }

    /// Requests that begin from now on must not fail.
    pub fn outage_ends(&self) {
        self.phase.fetch_add(1, SeqCst);
    }

    /// Whether a request that began at `mark` may have failed: part of its time was in an outage.
    pub fn excuses(&self, mark: Mark) -> bool {
        mark.phase % 2 == 1 || mark.phase != self.phase.load(SeqCst)
    }

    /// A successful answer; `None` where a failure is excused.
    pub fn judge(&self, mark: Mark, answer: Result<Answer>) -> Result<Option<Answer>> {
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(Some(answer)),
            _ if self.excuses(mark) => {
                self.excused.fetch_add(1, SeqCst);
                Ok(None)
            }
            Ok(answer) => bail!("status {}: {}", answer.status, answer.text()),
            Err(error) => Err(error),
        }
    }

    pub fn acknowledged(&self, kind: Kind, mark: Mark) {
        self.writes.send_modify(|writes| *writes += 1);
        self.recovered[kind as usize].fetch_max(mark.restarts, SeqCst);
    }

    /// Whether every kind has been written since the last restart.
    pub fn recovered(&self) -> bool {
        let restarts = self.restarts.load(SeqCst);
        self.recovered.iter().all(|kind| kind.load(SeqCst) >= restarts)
    }

    pub fn writes(&self) -> u64 {
        *self.writes.borrow()
    }

    /// How many requests failed while they were allowed to.
    pub fn excused(&self) -> u64 {
        self.excused.load(SeqCst)
    }

    /// Waits until so many more writes were acknowledged, or there are to be no more.
    pub async fn more_writes(&self, number: u64) -> Result<()> {
        let goal = self.writes() + number;
        let mut writes = self.writes.subscribe();
        writes.wait_for(|writes| self.stopped() || *writes >= goal).await.context("nobody writes")?;
        Ok(())
    }

    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
        // Wakes those who wait for writes that will not come.
        self.writes.send_modify(|_| {});
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_overlap_an_outage_may_fail() {
        let traffic = Traffic::default();
        let before = traffic.mark();
        assert!(!traffic.excuses(before));
        traffic.outage_begins();
        let during = traffic.mark();
        assert!(traffic.excuses(before) && traffic.excuses(during));
        traffic.outage_ends();
        assert!(traffic.excuses(before) && traffic.excuses(during) && !traffic.excuses(traffic.mark()));
    }

    #[test]
    fn a_write_begun_before_the_restart_shows_no_recovery() {
        let traffic = Traffic::default();
        let before = traffic.mark();
        traffic.store_restarted();
        KINDS.iter().for_each(|kind| traffic.acknowledged(*kind, before));
        assert!(!traffic.recovered());
        KINDS.iter().for_each(|kind| traffic.acknowledged(*kind, traffic.mark()));
        assert!(traffic.recovered());
    }
}
