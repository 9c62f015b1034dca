//! The leader's clock for leases: when each one ends, who waits for one that is being revoked.
//! Keepalives live only here; they never pass through the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use keelson_api::Error;
use keelson_state::Reply;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

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
    /// In order, since all are told at once.
    waiting: BTreeMap<i64, Vec<oneshot::Sender<()>>>,
    /// The newest term in which this member has proved that it leads.
    term: u64,
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

    /// Whether the clocks have begun in this term of a leader.
    #[must_use]
    pub fn runs_in(&self, term: u64) -> bool {
        self.clocks.lock().term == term
    }

    /// This member leads in a new term: its clocks have not seen the renewals, so every lease begins its time anew, and
    /// `grace` more. Once in a term: renewals have come since.
    pub fn begin_anew(&self, term: u64, grace: Duration) {
        let mut clocks = self.clocks.lock();
        let clocks = &mut *clocks;
        if term <= clocks.term {
            return;
        }
        clocks.term = term;
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
    #[must_use]
    pub fn time_to_live(&self, id: i64) -> Option<(i64, i64)> {
        let clocks = self.clocks.lock();
        let clock = clocks.by_id.get(&id)?;
        let left = clock.ends.saturating_duration_since(Instant::now());
        Some((clock.ttl, i64::try_from(left.as_secs()).unwrap_or(i64::MAX)))
    }

    /// All leases, the one that ends first first.
    #[must_use]
    pub fn by_end(&self) -> Vec<i64> {
        self.clocks.lock().by_end.iter().map(|(_, id)| *id).collect()
    }

    /// Takes up to `limit` leases that have ended, to be revoked.
    #[must_use]
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

    /// What became of the proposal to revoke a lease that had ended. That it was revoked is told where it is applied.
    pub fn proposed(&self, id: i64, reply: &Result<Reply, Error>) {
        match reply {
            Ok(Reply::LeaseRevoke { .. }) => {}
            // Somebody else was faster, and its id may be granted anew by now.
            Err(Error::LeaseNotFound) => {
                let ending = self.clocks.lock().by_id.get(&id).is_some_and(|clock| clock.revoking);
                if ending {
                    self.revoked(id);
                }
            }
            // The term has moved on, or nobody knows: it is looked at again.
            Ok(_) | Err(_) => self.give_back(id),
        }
    }

    fn give_back(&self, id: i64) {
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
        lessor.proposed(3, &Ok(Reply::Done));
        assert_eq!(lessor.take_ended(10), [3]);
        lessor.revoked(3);
        lessor.granted(3, 3600, 0);
        lessor.proposed(3, &Err(Error::LeaseNotFound));
        assert!(matches!(lessor.renew(3), Renewal::Renewed(3600)), "granted anew meanwhile");
        assert_eq!(lessor.time_to_live(9), None);
    }

    #[test]
    fn a_new_leader_gives_every_lease_its_whole_term_whatever_was_left_of_it() {
        let lessor = Lessor::default();
        lessor.granted(1, 3600, 1);
        lessor.granted(2, 0, 0);
        assert_eq!(lessor.take_ended(10), [2]);
        let Renewal::Ending(mut waiting) = lessor.renew(2) else { panic!("renewed a lease that is being revoked") };
        lessor.begin_anew(5, Duration::from_secs(60));
        assert!(lessor.time_to_live(1).is_some_and(|(ttl, left)| ttl == 3600 && left > 3600), "what was left of the term");
        assert!(matches!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Closed)), "nobody asks again");
        assert!(lessor.take_ended(10).is_empty(), "the grace");
        assert!(matches!(lessor.renew(2), Renewal::Renewed(0)));
        assert!(lessor.runs_in(5) && !lessor.runs_in(6));
        for known in [5, 4] {
            lessor.begin_anew(known, Duration::from_secs(60));
            assert_eq!(lessor.take_ended(1).len(), usize::from(known == 5), "a term begins once");
        }
    }
}
