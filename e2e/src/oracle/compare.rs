//! Decides whether two outcomes of one step are the same, and shows where they are not.

use std::fmt::{self, Display, Formatter};

use super::outcome::Outcome;

/// Each side counts its own time from when it granted the lease.
const TTL_TOLERANCE: i64 = 1;
const CONTEXT_LINES: usize = 12;
const SHOWN_LINES: usize = 40;

#[derive(Clone, Debug)]
pub struct Difference {
    pub left: Outcome,
    pub right: Outcome,
}

/// `None` when the outcomes are the same and neither breaks a rule by itself.
pub fn compare(left: Outcome, right: Outcome) -> Option<Difference> {
    let same = match (&left, &right) {
        (Outcome::LeaseTimeToLive(l), Outcome::LeaseTimeToLive(r)) => {
            // -1 is not a time but says that there is no such lease.
            let close = l.ttl >= 0 && r.ttl >= 0 && l.ttl.abs_diff(r.ttl) <= TTL_TOLERANCE as u64;
            let mut l = l.clone();
            if close {
                l.ttl = r.ttl;
            }
            l == *r
        }
        _ => left == right,
    };
    let sound = left.flaws().is_empty() && right.flaws().is_empty();
    (!same || !sound).then_some(Difference { left, right })
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (side, outcome) in [("left", &self.left), ("right", &self.right)] {
            for flaw in outcome.flaws() {
                writeln!(f, "{side} breaks a rule: {flaw}")?;
            }
        }
        let (left, right) = (format!("{:#?}", self.left), format!("{:#?}", self.right));
        let same = left.lines().zip(right.lines()).take_while(|(l, r)| l == r).count();
        for (side, text) in [("left", left), ("right", right)] {
            writeln!(f, "--- {side}, from line {}", same.saturating_sub(CONTEXT_LINES) + 1)?;
            for line in text.lines().skip(same.saturating_sub(CONTEXT_LINES)).take(SHOWN_LINES) {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "compare_watch_tests.rs"]
mod watch_tests;
