//! How a server is brought down: at a named place of its own code, at any moment, while it starts,
//! or while it stops.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// Passed when files are rewritten, and when the server stops.
const FLUSH: &str = "state-flush";
/// Passed once a segment of the log is full, which takes large values and a while.
const SEGMENT: &str = "log-segment";
/// Places passed while the server runs; the last one only where values are large.
pub const PLACES: [&str; 8] = ["log-write", "log-written", "log-synced", "apply", "compaction", "defragment", FLUSH, SEGMENT];

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
    pub fn draw(rng: &mut StdRng, has_large_values: bool) -> Self {
        let after = Duration::from_millis(rng.random_range(5..200));
        match rng.random_range(0..100) {
            0..52 => {
                let reachable = if has_large_values { PLACES.len() } else { PLACES.len() - 1 };
                let place = PLACES[rng.random_range(0..reachable)];
                let passes = match place {
                    "compaction" => 12,
                    "defragment" => 8,
                    FLUSH | SEGMENT => 2,
                    _ => 90,
                };
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

    /// How long a server may run on towards its failpoint before it is killed anyway.
    pub fn patience(self) -> Duration {
        match self {
            Self::Failpoint { place: SEGMENT, .. } => Duration::from_secs(3),
            _ => Duration::from_millis(600),
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
