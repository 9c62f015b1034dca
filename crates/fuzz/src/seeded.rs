//! The engine for `cargo test`: the n-th input is made from the n-th seed.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bolero::bolero_engine::{driver, input, panic};
use bolero::{Engine, TargetLocation, Test};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Bytes of the longest input.
const MAX_BYTES: usize = 2048;

/// Plays a target's corpus and its seeded inputs.
pub struct Seeded {
    location: TargetLocation,
    inputs: u64,
}

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The bytes of seed `seed`: short ones are as frequent as long ones, and some repeat few values.
fn bytes_of(seed: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let limit = MAX_BYTES >> rng.random_range(0..8_u32);
    let mut bytes = vec![0; rng.random_range(0..=limit)];
    rng.fill(bytes.as_mut_slice());
    if rng.random_bool(0.25) {
        let few = [0, 1, 0x7f, 0x80, 0xff, rng.random()];
        bytes.iter_mut().for_each(|b| *b = few[usize::from(*b) % few.len()]);
    }
    bytes
}

impl Seeded {
    pub(crate) const fn new(location: TargetLocation, inputs: u64) -> Self {
        Self { location, inputs }
    }

    /// Inputs that were kept: what libFuzzer found worth keeping, and what once failed.
    fn kept(&self) -> Vec<PathBuf> {
        let Some(folder) = self.location.work_dir() else { return Vec::new() };
        let files = |name| std::fs::read_dir(folder.join(name)).into_iter().flatten();
        let mut kept: Vec<_> = files("crashes").chain(files("corpus")).filter_map(|f| Some(f.ok()?.path())).collect();
        kept.sort();
        kept
    }
}

/// Plays one input; a failure is shortened first.
fn play<T: Test>(test: &mut T, name: &str, bytes: &[u8], options: &driver::Options)
where
    T::Value: Debug,
{
    panic::forward_panic(false);
    let outcome = test.test(&mut input::Bytes::new(bytes, options));
    let failed = outcome.err().map(|error| match test.shrink(bytes.to_vec(), None, options) {
        Some(shortened) => format!("{shortened}"),
        None => format!("{error}"),
    });
    panic::forward_panic(true);
    if let Some(failure) = failed {
        panic!("{name} fails: {failure}");
    }
}

impl<T: Test> Engine<T> for Seeded
where
    T::Value: Debug,
{
    type Output = ();

    fn run(self, mut test: T, options: driver::Options) {
        panic::set_hook();
        let name = self.location.item_path();
        if let Some(seed) = variable("FUZZ_SEED") {
            return play(&mut test, &format!("{name}, FUZZ_SEED={seed},"), &bytes_of(seed), &options);
        }
        for path in self.kept() {
            // A folder, or a file that has just gone.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            play(&mut test, &format!("{name}, input {},", path.display()), &bytes, &options);
        }
        let until = variable("FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let goes_on = |seed| until.map_or(seed < self.inputs, |until| Instant::now() < until);
        let mut seed = 0;
        while goes_on(seed) {
            play(&mut test, &format!("{name}, FUZZ_SEED={seed},"), &bytes_of(seed), &options);
            seed += 1;
        }
    }
}
