//! What can happen to members, drawn from a seed: which faults, to whom, and for how long.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

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
    /// There is no room left where the one member with a small disk has its data.
    FillDisk,
}

/// What the machine and the program under test make possible.
#[derive(Clone, Copy, Debug)]
pub struct Possible {
    pub members: usize,
    pub disks: bool,
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

/// The next fault; equal dice give equal faults.
pub fn draw(rng: &mut StdRng, possible: Possible) -> Step {
    let whom = who(rng, possible.members);
    let trouble = trouble(rng);
    let fault = match rng.random_range(0..if possible.disks { 100 } else { 84 }) {
        0..16 => Fault::Kill(whom),
        16..20 => Fault::KillMost(whom),
        20..24 => Fault::KillAll,
        24..30 => Fault::Stop(whom),
        30..40 => Fault::Freeze(whom),
        40..52 => Fault::Isolate(whom),
        52..59 => Fault::Deafen(whom),
        59..66 => Fault::Mute(whom),
        66..72 => Fault::Part(whom),
        72..78 => Fault::SlowAll(trouble),
        78..84 => Fault::Slow(whom, trouble),
        84..94 => Fault::Stall(whom),
        _ => Fault::FillDisk,
    };
    // Around the election timeout, about a second, is where it matters most.
    let lasts = if rng.random_bool(0.3) { millis(rng, 50, 900) } else { millis(rng, 900, 6000) };
    Step { fault, lasts, quiet: millis(rng, 200, 2500) }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_decides_all_faults_and_most_kinds_come_soon() {
        let draws = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..100).map(|_| draw(&mut rng, Possible { members: 3, disks: true }).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(draws(5), draws(5));
        assert_ne!(draws(5), draws(6));
        for kind in ["Kill(", "Freeze", "Isolate", "Deafen", "Mute", "Slow", "Stall"] {
            assert!(draws(5).iter().any(|step| step.contains(kind)), "no {kind} in a hundred");
        }
    }
}
