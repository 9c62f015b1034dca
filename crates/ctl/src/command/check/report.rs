//! How long many calls took.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exit::Failure;

/// Calls that were answered, and what was said by those that were not.
#[derive(Debug, Default)]
pub struct Report {
    took: Vec<f64>,
    errors: BTreeMap<String, u64>,
}

impl Report {
    pub fn add(&mut self, answer: Result<(), Failure>, took: Duration) {
        match answer {
            Ok(()) => self.took.push(took.as_secs_f64()),
            Err(failure) => *self.errors.entry(failure.text().to_owned()).or_default() += 1,
        }
    }

    pub fn answered(&self) -> usize {
        self.took.len()
    }

    /// Each text, with how often it was heard.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.errors.iter().map(|(text, count)| (text.as_str(), *count))
    }

    /// In seconds.
    pub fn slowest(&self) -> f64 {
        self.took.iter().copied().fold(0.0, f64::max)
    }

    /// In seconds.
    pub fn deviation(&self) -> f64 {
        let count = self.took.len().max(1) as f64;
        let mean = self.took.iter().sum::<f64>() / count;
        (self.took.iter().map(|took| (took - mean).powi(2)).sum::<f64>() / count).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_errors_are_kept_apart() {
        let mut report = Report::default();
        for seconds in [1, 3] {
            report.add(Ok(()), Duration::from_secs(seconds));
        }
        for _ in 0..2 {
            report.add(Err(Failure::error("no")), Duration::from_secs(60));
        }
        assert_eq!((report.answered(), report.slowest(), report.deviation()), (2, 3.0, 1.0));
        assert_eq!(report.errors().collect::<Vec<_>>(), [("no", 2)]);
        assert_eq!(Report::default().deviation(), 0.0);
    }
}
