//! The whole cluster logic on a simulated network, clock and disk: consensus with openraft in it, the replicated state
//! machine, the clocks of leases, the events of watchers, and the store in memory. One thread does everything, in an order
//! that a seed decides ([`world`]), so the same seed gives the same run, down to the last message. Members crash with what
//! they had not synced, stand still, lose their disk, are cut off in one direction or both, come and go; after every
//! simulated millisecond the invariants hold that [`truth`] knows.
//!
//! It needs a build of its own, since the clock of the runtime has to stand still (`--features simulation`):
//! `make simulate`. Environment: `KEELSON_SIM_SECONDS` of real time to try new seeds (60); `KEELSON_SIM_SEED` plays the
//! one that a failure named; `KEELSON_SIM_LASTS` is how many simulated milliseconds one lasts; `KEELSON_SIM_TRACE` names a file
//! for all that happens.
//!
//! Not simulated: the transport's own checks of who calls (`server/peer`), the files of a checkpoint (it arrives whole or
//! not at all), what a stream makes of events, clocks that differ in speed, and a disk that lies.

mod clients;
mod disk;
mod host;
mod net;
mod truth;
mod watchers;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use world::{HAPPENS, Report, World};

/// Simulated milliseconds of one run.
const LASTS: u64 = 20_000;
/// Real seconds for new seeds.
const SECONDS: u64 = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A world is broken: the others need not go on.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// A panic of consensus would not say which seed it was.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            BROKEN.store(true, Ordering::Relaxed);
            eprintln!("KEELSON_SIM_SEED={}", self.0);
        }
    }
}

fn run(seed: u64) -> Report {
    // One that never ends is told by its last line.
    println!("KEELSON_SIM_SEED={seed}");
    let _named = Named(seed);
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
    let next = AtomicU64::new(std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs() << 16));
    let some_seeds = || {
        let mut reports = Vec::new();
        while begin.elapsed() < limit && !BROKEN.load(Ordering::Relaxed) {
            reports.push(run(next.fetch_add(1, Ordering::Relaxed)));
        }
        reports
    };
    // A world needs one thread, so there are as many worlds at a time.
    let reports: Vec<Report> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(some_seeds)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let seeds = reports.len() as u64;
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (acknowledged, reads, terms) = (sum(|r| r.acknowledged), sum(|r| r.reads), sum(|r| r.terms as u64));
    let mut happened = BTreeMap::new();
    for (what, times) in reports.iter().flat_map(|report| &report.faults) {
        *happened.entry(*what).or_insert(0) += times;
    }
    let (renewals, expiries, events) = (sum(|r| r.renewals), sum(|r| r.expiries), sum(|r| r.events));
    println!("{seeds} seeds: {acknowledged} writes acknowledged, {reads} reads, {terms} terms; {happened:?}");
    println!("leases: {renewals} renewals, {expiries} have ended by themselves; watchers were told of {events} revisions");
    // A world in which nothing gets done, or nothing goes wrong, proves nothing.
    assert!(acknowledged > 50 * seeds && reads > 20 * seeds && terms > 2 * seeds);
    assert!(renewals > 2 * seeds && expiries > seeds && events > 100 * seeds);
    let never: Vec<_> = HAPPENS.iter().filter(|what| !happened.contains_key(*what)).collect();
    assert!(never.is_empty() || seeds < 50 || number("KEELSON_SIM_LASTS").is_some(), "never happened: {never:?}");
}
