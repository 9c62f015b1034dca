//! The leader's clock for leases: when each one ends, who waits for one that is being revoked.
//! Keepalives live only here; they never pass through the log.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

#[derive(Debug)]
struct Clock {
    /// Granted time to live in seconds.
    ttl: i64,
    ends: Instant,
    revoking: bool,
}

#[derive(Default)]
struct Clocks {
    by_id: HashMap<i64, Clock>,
    by_end: BTreeSet<(Instant, i64)>,
    waiting: HashMap<i64, Vec<oneshot::Sender<()>>>,
}

/// Ends of all leases.
#[derive(Default)]
pub struct Lessor {
    clocks: Mutex<Clocks>,
}

/// What became of a keepalive.
pub enum Renewal {
    /// The lease lives on for this many seconds.
    Renewed(i64),
    /// There is no such lease.
    NotFound,
    /// It has ended and is being revoked: ask again when this resolves.
    Ending(oneshot::Receiver<()>),
}

fn ends_in(seconds: i64) -> Instant {
    // Far beyond any process: what cannot be added is as good as for ever.
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Instant::now().checked_add(seconds).unwrap_or_else(|| Instant::now() + Duration::from_secs(u64::from(u32::MAX)))
}

impl Clocks {
    fn set(&mut self, id: i64, ttl: i64, seconds: i64) {
        let ends = ends_in(seconds);
        if let Some(old) = self.by_id.insert(id, Clock { ttl, ends, revoking: false }) {
            self.by_end.remove(&(old.ends, id));
        }
        self.by_end.insert((ends, id));
    }
}

impl Lessor {
    /// A lease was granted, or is known from the state at start. `remaining` is 0 for a full term.
    pub fn granted(&self, id: i64, ttl: i64, remaining: i64) {
        let seconds = if remaining > 0 { remaining } else { ttl };
        self.clocks.lock().set(id, ttl, seconds);
    }

    /// A lease is gone.
    pub fn revoked(&self, id: i64) {
        let mut clocks = self.clocks.lock();
        if let Some(clock) = clocks.by_id.remove(&id) {
            clocks.by_end.remove(&(clock.ends, id));
        }
        // Whoever waited asks again and finds it gone.
        clocks.waiting.remove(&id);
    }

    /// This member has become leader: its clocks have not seen the renewals, so every lease begins its
    /// term anew, and `grace` more for clients to find the new leader.
    pub fn begin_anew(&self, grace: Duration) {
        let mut clocks = self.clocks.lock();
        let clocks = &mut *clocks;
        clocks.by_end.clear();
        for (id, clock) in &mut clocks.by_id {
            clock.ends = ends_in(clock.ttl) + grace;
            clock.revoking = false;
            clocks.by_end.insert((clock.ends, *id));
        }
        // Whoever waited asks again.
        clocks.waiting.clear();
    }

    /// Starts a lease's term anew.
    pub fn renew(&self, id: i64) -> Renewal {
        let mut clocks = self.clocks.lock();
        match clocks.by_id.get(&id) {
            None => Renewal::NotFound,
            Some(clock) if clock.ends <= Instant::now() || clock.revoking => {
                let (tx, rx) = oneshot::channel();
                clocks.waiting.entry(id).or_default().push(tx);
                Renewal::Ending(rx)
            }
            Some(clock) => {
                let ttl = clock.ttl;
                clocks.set(id, ttl, ttl);
                Renewal::Renewed(ttl)
            }
        }
    }

    /// Granted and remaining seconds.
    pub fn time_to_live(&self, id: i64) -> Option<(i64, i64)> {
        let clocks = self.clocks.lock();
        let clock = clocks.by_id.get(&id)?;
        let left = clock.ends.saturating_duration_since(Instant::now());
        Some((clock.ttl, i64::try_from(left.as_secs()).unwrap_or(i64::MAX)))
    }

    /// All leases, the one that ends first first.
    pub fn by_end(&self) -> Vec<i64> {
        self.clocks.lock().by_end.iter().map(|(_, id)| *id).collect()
    }

    /// Takes up to `limit` leases that have ended, to be revoked.
    pub fn take_ended(&self, limit: usize) -> Vec<i64> {
        let mut clocks = self.clocks.lock();
        let now = Instant::now();
        let ended: Vec<_> = clocks.by_end.iter().take_while(|(ends, _)| *ends <= now).take(limit).copied().collect();
        for entry in &ended {
            clocks.by_end.remove(entry);
            if let Some(clock) = clocks.by_id.get_mut(&entry.1) {
                clock.revoking = true;
            }
        }
        ended.into_iter().map(|(_, id)| id).collect()
    }

    /// A revoke did not go through: the lease is looked at again.
    pub fn give_back(&self, id: i64) {
        let mut clocks = self.clocks.lock();
        clocks.waiting.remove(&id);
        if let Some(clock) = clocks.by_id.get_mut(&id) {
            clock.revoking = false;
            let ends = clock.ends;
            clocks.by_end.insert((ends, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_has_ended_cannot_be_renewed_and_its_waiters_learn_of_the_revoke() {
        let lessor = Lessor::default();
        lessor.granted(1, 0, 0);
        lessor.granted(2, 3600, 0);
        assert_eq!(lessor.take_ended(10), [1]);
        assert!(lessor.take_ended(10).is_empty(), "taken once");
        let Renewal::Ending(mut waiting) = lessor.renew(1) else { panic!("renewed a lease that is being revoked") };
        assert!(waiting.try_recv().is_err());
        lessor.revoked(1);
        assert!(matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(lessor.renew(1), Renewal::NotFound));
        assert!(matches!(lessor.renew(2), Renewal::Renewed(3600)));
        lessor.granted(3, 0, 0);
        assert_eq!(lessor.take_ended(10), [3]);
        lessor.give_back(3);
        assert_eq!(lessor.take_ended(10), [3]);
        assert_eq!(lessor.time_to_live(9), None);
    }
}
