//! What can happen to members: which faults, to whom, and for how long. They are dealt from a deck that a seed shuffles,
//! so that each has come before any comes again.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::slow::Trouble;

/// Whom a fault concerns; who leads is looked up when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Leader,
    Member(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// SIGKILL.
    Kill(Who),
    /// SIGKILL to more than may fail: nothing is written until they are back.
    KillMost(Who),
    KillAll,
    /// SIGTERM, as in a rolling restart.
    Stop(Who),
    /// SIGSTOP: it keeps its connections and does nothing.
    Freeze(Who),
    /// It and the others hear nothing of each other.
    Isolate(Who),
    /// It hears nobody, and is heard.
    Deafen(Who),
    /// It is heard by nobody, and hears.
    Mute(Who),
    /// It and one other hear nothing of each other; both reach the rest.
    Part(Who),
    /// All connections between members.
    SlowAll(Trouble),
    /// All connections of one member.
    Slow(Who, Trouble),
    /// No sync of its files ends.
    Stall(Who),
    /// Its clock is set by so many hours, and back again.
    Jump(Who, i64),
    /// There is no room left where the one member with a small disk has its data.
    FillDisk,
    /// A follower is removed with its data, and a new member put in its place.
    Replace(Who),
}

impl Fault {
    /// Which kind it is, whomever it concerns.
    pub fn kind(self) -> String {
        let all = format!("{self:?}");
        all.split('(').next().unwrap_or_default().to_owned()
    }
}

/// What the machine and the program under test make possible.
#[derive(Clone, Copy, Debug)]
pub struct Possible {
    pub members: usize,
    /// Its disks can be stalled and filled, and its clocks set.
    pub shims: bool,
}

/// A fault, how long it lasts, and how long is quiet after it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub fault: Fault,
    pub lasts: Duration,
    pub quiet: Duration,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:.1?}", self.fault, self.lasts)
    }
}

fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..to))
}

fn who(rng: &mut StdRng, members: usize) -> Who {
    // Half of all faults concern the leader: that is where most is lost, if anything is.
    if rng.random_bool(0.5) { Who::Leader } else { Who::Member(rng.random_range(0..members)) }
}

fn trouble(rng: &mut StdRng) -> Trouble {
    Trouble {
        delay: millis(rng, 0, 40),
        jitter: millis(rng, 0, 80),
        loss: rng.random_range(0.0..0.1),
        reset: if rng.random_bool(0.5) { rng.random_range(0.0..0.01) } else { 0.0 },
    }
}

/// One fault of each kind, in any order.
fn shuffled(rng: &mut StdRng, possible: Possible) -> Vec<Fault> {
    let mut whom = || who(rng, possible.members);
    let mut faults = vec![
        Fault::Kill(whom()),
        Fault::KillMost(whom()),
        Fault::KillAll,
        Fault::Stop(whom()),
        Fault::Freeze(whom()),
        Fault::Isolate(whom()),
        Fault::Deafen(whom()),
        Fault::Mute(whom()),
        Fault::Part(whom()),
        Fault::Replace(whom()),
    ];
    let (slow, stalled, set) = (whom(), whom(), whom());
    faults.extend([Fault::SlowAll(trouble(rng)), Fault::Slow(slow, trouble(rng))]);
    if possible.shims {
        let hours: i64 = if rng.random_bool(0.5) { rng.random_range(1..100) } else { rng.random_range(-99..0) };
        faults.extend([Fault::Stall(stalled), Fault::Jump(set, hours), Fault::FillDisk]);
    }
    faults.shuffle(rng);
    faults
}

/// The faults to come; equal dice give equal faults.
pub struct Deck {
    possible: Possible,
    faults: Vec<Fault>,
    /// How many there have been.
    dealt: usize,
    kinds: usize,
}

impl Deck {
    pub fn new(rng: &mut StdRng, possible: Possible) -> Self {
        let faults = shuffled(rng, possible);
        Self { possible, kinds: faults.len(), faults, dealt: 0 }
    }

    pub fn deal(&mut self, rng: &mut StdRng) -> Step {
        if self.faults.is_empty() {
            self.faults = shuffled(rng, self.possible);
        }
        let fault = self.faults.pop().expect("it was just filled");
        self.dealt += 1;
        // Around the election timeout, about a second, is where it matters most.
        let lasts = if rng.random_bool(0.3) { millis(rng, 50, 900) } else { millis(rng, 900, 6000) };
        Step { fault, lasts, quiet: millis(rng, 200, 2500) }
    }

    /// How many kinds of faults there are.
    pub const fn kinds(&self) -> usize {
        self.kinds
    }

    /// Whether each kind has come.
    pub const fn all_have_come(&self) -> bool {
        self.dealt >= self.kinds
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    fn deals(seed: u64, times: usize) -> Vec<Fault> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut deck = Deck::new(&mut rng, Possible { members: 3, shims: true });
        (0..times).map(|_| deck.deal(&mut rng).fault).collect()
    }

    #[test]
    fn a_seed_decides_all_faults() {
        assert_eq!(deals(5, 100), deals(5, 100));
        assert_ne!(deals(5, 100), deals(6, 100));
    }

    #[test]
    fn each_kind_comes_before_any_comes_again() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut deck = Deck::new(&mut rng, Possible { members: 5, shims: true });
        for _ in 0..3 {
            let kinds: BTreeSet<String> = (0..deck.kinds()).map(|_| deck.deal(&mut rng).fault.kind()).collect();
            assert_eq!(kinds.len(), deck.kinds());
            assert!(deck.all_have_come());
        }
        for kind in ["Kill", "Freeze", "Isolate", "Stall", "Jump", "FillDisk", "Replace"] {
            assert!(deals(7, deck.kinds()).iter().any(|fault| fault.kind() == kind), "no {kind}");
        }
    }
}
