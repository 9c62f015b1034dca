//! How a server is brought down: at a named place of its own code, at any moment, while it starts,
//! or while it stops.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// Places passed while the server runs; `state-flush` is passed only when it stops.
const PLACES: [&str; 5] = ["log-write", "log-written", "log-synced", "apply", "compaction"];
const FLUSH: &str = "state-flush";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The server ends itself at the given pass of a place.
    Failpoint { place: &'static str, pass: u32 },
    /// SIGKILL under load.
    Kill { after: Duration },
    /// SIGKILL before the server is ready, if it is not ready sooner.
    KillStarting { after: Duration },
    /// SIGTERM under load.
    Stop { after: Duration, flush: bool },
}

impl Blow {
    pub fn draw(rng: &mut StdRng) -> Self {
        let after = Duration::from_millis(rng.random_range(5..200));
        match rng.random_range(0..100) {
            0..52 => {
                let place = PLACES[rng.random_range(0..PLACES.len())];
                let passes = if place == "compaction" { 12 } else { 90 };
                Self::Failpoint { place, pass: rng.random_range(1..=passes) }
            }
            52..58 => Self::Stop { after, flush: false },
            58..64 => Self::Stop { after, flush: true },
            64..74 => Self::KillStarting { after: Duration::from_millis(rng.random_range(1..300)) },
            _ => Self::Kill { after },
        }
    }

    /// What to set KEELSON_FAILPOINT to.
    pub fn failpoint(self) -> Option<String> {
        match self {
            Self::Failpoint { place, pass } => Some(format!("{place}:{pass}")),
            Self::Stop { flush: false, .. } => Some(format!("{FLUSH}:1")),
            _ => None,
        }
    }

    /// Where it is counted in the report.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Failpoint { place, .. } => place,
            Self::Kill { .. } => "random",
            Self::KillStarting { .. } => "starting",
            Self::Stop { flush: false, .. } => FLUSH,
            Self::Stop { flush: true, .. } => "stopped",
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
