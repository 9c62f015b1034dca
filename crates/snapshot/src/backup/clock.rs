//! The time that a log tells. The machine's clock may be set back; what a log says of time only grows.

use jiff::Timestamp;

/// Farther back than this is told to whoever runs it.
const WORTH_TELLING: i64 = 60_000;

/// Milliseconds that only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    last: i64,
}

impl Clock {
    /// Goes on from a time that has been told already.
    #[must_use]
    pub const fn from(last: i64) -> Self {
        Self { last }
    }

    /// The time to be told when the machine says `now`; and by how many milliseconds it is behind, if that is much.
    pub fn tell(&mut self, now: Timestamp) -> (i64, Option<i64>) {
        let now = now.as_millisecond();
        let behind = self.last - now;
        self.last = self.last.max(now);
        (self.last, (behind > WORTH_TELLING).then_some(behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_while_the_machine_is_behind() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        let mut clock = Clock::from(1_000_000);
        assert_eq!(clock.tell(at(999_000)), (1_000_000, None));
        assert_eq!(clock.tell(at(900_000)), (1_000_000, Some(100_000)));
        assert_eq!(clock.tell(at(1_000_001)), (1_000_001, None));
    }
}
