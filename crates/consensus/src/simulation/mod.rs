//! The whole cluster logic on a simulated network, clock and disk: consensus with openraft in it, the replicated state
//! machine, and the store in memory. One thread does everything, in an order that a seed decides ([`world`]), so the
//! same seed gives the same run, down to the last message. Members crash with what they had not synced, stand still,
//! are cut off in one direction or both, come and go; after every simulated millisecond the invariants hold that
//! [`truth`] knows.
//!
//! It needs a build of its own, since the clock of the runtime has to stand still (`--features simulation`):
//! `make simulate`. Environment: `KEELSON_SIM_SECONDS` of real time to try new seeds (60); `KEELSON_SIM_SEED` plays the
//! one that a failure named; `KEELSON_SIM_LASTS` is how many simulated milliseconds one lasts; `KEELSON_SIM_TRACE` names a file
//! for all that happens.
//!
//! Not simulated: the transport's own checks of who calls (`server/peer`), the files of a checkpoint (it arrives whole or
//! not at all), leases that expire by a clock, and a disk that lies.

mod clients;
mod disk;
mod host;
mod net;
mod truth;
mod world;

use std::time::{Duration, Instant};

use world::{Report, World};

/// Simulated milliseconds of one run.
const LASTS: u64 = 20_000;
/// Real seconds for new seeds.
const SECONDS: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn run(seed: u64) -> Report {
    // A panic of consensus would not say which seed it was.
    println!("KEELSON_SIM_SEED={seed}");
    World::run(seed, number("KEELSON_SIM_LASTS").unwrap_or(LASTS), false).unwrap_or_else(|broken| panic!("{broken}"))
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=3 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(run(1).trace, run(2).trace);
}

/// What is watched for can be seen: here syncs do nothing, as on a disk that lies.
#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let broken = (1..=30).find_map(|seed| World::run(seed, LASTS, true).err());
    let broken = broken.expect("power cuts took what was acknowledged, and nobody noticed");
    println!("{broken}");
}

#[test]
fn the_invariants_hold_whatever_happens() {
    if let Some(seed) = number("KEELSON_SIM_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let limit = Duration::from_secs(number("KEELSON_SIM_SECONDS").unwrap_or(SECONDS));
    let begin = Instant::now();
    let first = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs() << 16);
    let (mut seeds, mut acknowledged, mut reads, mut terms) = (0, 0, 0, 0);
    while begin.elapsed() < limit {
        let report = run(first.wrapping_add(seeds));
        seeds += 1;
        acknowledged += report.acknowledged;
        reads += report.reads;
        terms += report.terms;
    }
    println!("{seeds} seeds: {acknowledged} writes acknowledged, {reads} reads, {terms} terms");
    // A world in which nothing gets done proves nothing.
    assert!(acknowledged > 50 * seeds && reads > 20 * seeds && terms as u64 > 2 * seeds);
}
