//! What all fuzz targets share. A target is an ordinary `#[test]`: `cargo test` plays a fixed number
//! of inputs made from fixed seeds, so that a run on one machine is the run on every other, and then
//! whatever lies in the target's corpus; `cargo bolero test` gives the same target to libFuzzer.
//!
//! bolero's own engine for `cargo test` draws new seeds each time: a test that fails once and never
//! again is of little use, so this one takes its place there.

mod damage;
#[cfg(not(fuzzing))]
mod seeded;

pub use damage::{Damage, damaged};
#[cfg(not(fuzzing))]
pub use seeded::Seeded;

/// Begins a target: `target!(inputs)`, then bolero's `with_type` and `for_each`. The number says how
/// many inputs `cargo test` plays, about half a second's worth.
#[macro_export]
macro_rules! target {
    ($inputs:expr) => {{
        let location = bolero::TargetLocation {
            package_name: env!("CARGO_PKG_NAME"),
            manifest_dir: env!("CARGO_MANIFEST_DIR"),
            module_path: module_path!(),
            file: file!(),
            line: line!(),
            item_path: bolero::__item_path__!(),
            test_name: None,
        };
        if !location.should_run() {
            return;
        }
        $crate::begin(location, $inputs)
    }};
}

/// Where [`target!`] leads: to libFuzzer.
#[cfg(fuzzing)]
#[doc(hidden)]
#[must_use]
pub fn begin(
    location: bolero::TargetLocation,
    _inputs: u64,
) -> bolero::TestTarget<bolero::ByteSliceGenerator, bolero::DefaultEngine, bolero::BorrowedInput> {
    bolero::test(location)
}

/// Where [`target!`] leads: to seeded inputs.
#[cfg(not(fuzzing))]
#[doc(hidden)]
#[must_use]
pub fn begin(
    location: bolero::TargetLocation,
    inputs: u64,
) -> bolero::TestTarget<bolero::ByteSliceGenerator, Seeded, bolero::BorrowedInput> {
    bolero::TestTarget::new(Seeded::new(location, inputs))
}
