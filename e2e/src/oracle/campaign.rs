//! Runs whole sequences on fresh servers, and turns a difference into a report that can be acted
//! on: what differed, and the shortest script found that shows it.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::compare::Difference;
use super::generate::{Generator, Profile};
use super::pair::Pair;
use super::play::Failure;
use super::script;
use super::shrink::shrink;
use super::step::Step;

/// One sequence: all that is needed to make it again.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    pub seed: u64,
    pub requests: usize,
    pub profile: Profile,
}

/// How many steps of each kind were played.
#[derive(Clone, Debug, Default)]
pub struct Mix(pub BTreeMap<&'static str, usize>);

impl Mix {
    pub fn count(&mut self, step: &Step) {
        *self.0.entry(step.kind()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Mix) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl Display for Mix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests", self.total())?;
        self.0.iter().try_for_each(|(kind, count)| write!(f, ", {kind} {count}"))
    }
}

/// A difference with the shortest script that was found for it.
#[derive(Debug)]
pub struct Report {
    pub origin: String,
    pub difference: Difference,
    pub steps: Vec<Step>,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}: the last of these {} steps differs", self.origin, self.steps.len())?;
        writeln!(f, "# save and replay with: keelson-oracle --replay FILE")?;
        writeln!(f, "{}", script::write(&self.steps))?;
        write!(f, "{}", self.difference)
    }
}

/// Plays the sequence on servers that were just started.
pub async fn run(pair: &Pair, sequence: Sequence, mix: &mut Mix) -> Result<Option<Failure>> {
    let mut sides = pair.connect().await?;
    let mut generator = Generator::new(sequence.seed, sequence.profile);
    Ok(sides.explore(&mut generator, sequence.requests, |step| mix.count(step)).await)
}

/// Shortens a failure for at most `limit`; every try is on emptied servers.
pub async fn report(pair: &mut Pair, origin: String, failure: Failure, limit: Duration) -> Result<Report> {
    let deadline = Instant::now() + limit;
    let mut difference = failure.difference;
    let steps = shrink(failure.steps, deadline, async |candidate| {
        pair.start_over().await?;
        let Some(smaller) = pair.connect().await?.replay(candidate).await else {
            return Ok(false);
        };
        difference = smaller.difference;
        Ok(true)
    })
    .await?;
    Ok(Report { origin, difference, steps })
}
