//! Revisions that somebody is still reading. Removal of compacted versions stops short of them, so
//! a long read ends at the revision it began with, whatever is compacted meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::read::ReadError;
use crate::store::{Shared, Store};

/// Pinned revisions and how many hold each.
#[derive(Default)]
pub(crate) struct Pins(Mutex<BTreeMap<i64, usize>>);

impl Pins {
    fn add(&self, revision: i64) {
        *self.0.lock().entry(revision).or_default() += 1;
    }

    fn drop_one(&self, revision: i64) {
        let mut held = self.0.lock();
        if let Some(holders) = held.get_mut(&revision) {
            *holders -= 1;
            if *holders == 0 {
                held.remove(&revision);
            }
        }
    }

    /// How many hold any.
    fn count(&self) -> usize {
        self.0.lock().values().sum()
    }

    /// The oldest pinned revision.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.0.lock().keys().next().copied()
    }
}

/// Keeps everything that is visible at one revision readable while it lives.
pub(crate) struct Pin<B> {
    pub(crate) shared: Arc<Shared<B>>,
    pub(crate) revision: i64,
    /// Newest revision when the pin was set.
    pub(crate) current: i64,
}

impl<B> Drop for Pin<B> {
    fn drop(&mut self) {
        self.shared.pins.drop_one(self.revision);
    }
}

impl<B: Backend> Store<B> {
    /// Long reads that are under way, each of which keeps a revision.
    #[must_use]
    pub fn open_reads(&self) -> usize {
        self.shared.pins.count()
    }

    /// Pins a revision, the newest if `revision` is not above zero.
    pub(crate) fn pin(&self, revision: i64) -> Result<Pin<B>, ReadError> {
        loop {
            let current = self.revision();
            if revision > current {
                return Err(ReadError::Future);
            }
            let at = if revision <= 0 { current } else { revision };
            self.shared.pins.add(at);
            let pin = Pin { shared: self.shared.clone(), revision: at, current };
            // Removal reads the pins after a compaction was marked, so either it sees this pin, or
            // the mark is seen here.
            if self.shared.compacted.load(Ordering::SeqCst) <= at {
                return Ok(pin);
            }
            if revision > 0 {
                return Err(ReadError::Compacted);
            }
            // The newest revision has moved on and was compacted meanwhile: take a newer one.
        }
    }
}
