//! Percentiles of latencies and medians of runs. Every latency is kept: a run has a few million at
//! most, and nothing is lost to buckets.

use std::time::Duration;

/// Latencies of single operations.
#[derive(Debug, Default, Clone)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    pub fn add(&mut self, latency: Duration) {
        self.0.push(latency.as_nanos() as u64);
    }

    pub fn merge(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds that `percent` of the operations stayed within.
    pub fn percentile(&mut self, percent: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        let index = ((self.0.len() as f64 * percent / 100.0).ceil() as usize).saturating_sub(1);
        let (_, &mut nanos, _) = self.0.select_nth_unstable(index.min(last));
        Some(nanos as f64 / 1e6)
    }
}

/// Median, smallest and largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    };
    Some(Spread { median, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut all = Latencies::default();
        (1..=100).rev().for_each(|ms| all.add(Duration::from_millis(ms)));
        assert_eq!(all.percentile(50.0), Some(50.0));
        assert_eq!(all.percentile(99.0), Some(99.0));
        assert_eq!(Latencies::default().percentile(50.0), None);
    }

    #[test]
    fn medians() {
        let of = |v: &[f64]| spread(v.iter().copied()).unwrap().median;
        assert_eq!(of(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(of(&[4.0, 1.0]), 2.5);
        assert_eq!(spread([f64::NAN]), None);
    }
}
