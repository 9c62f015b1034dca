//! The format: one number for all that a build leaves for another one, on disk, in the log, or on the way to another
//! member. A newer build understands all older formats, and writes the one that the cluster has: the newest that all
//! of its members understand (`docs/formats/upgrades.md`).

use std::sync::OnceLock;

/// The format that a cluster has until its members have agreed on a newer one.
pub const OLDEST: u32 = 1;
/// Newest format of this build.
const THIS: u32 = 1;

/// What every refusal for a format that is too new advises.
pub const ADVICE: &str = "start a newer keelson";

/// Newest format that this process understands. `KEELSON_FORMAT` makes it claim the next one, so that tests can run two
/// versions side by side while there is one. It is for nothing else: what has once got that format no build opens without it.
#[must_use]
pub fn newest() -> u32 {
    static NEWEST: OnceLock<u32> = OnceLock::new();
    *NEWEST.get_or_init(|| {
        let claimed = std::env::var("KEELSON_FORMAT").ok().and_then(|v| v.parse().ok());
        claimed.filter(|format| (OLDEST..=THIS + 1).contains(format)).unwrap_or(THIS)
    })
}

/// A format as it is told: who tells none is of a build that knew of one only.
#[must_use]
pub fn told(format: u32) -> u32 {
    format.max(OLDEST)
}

/// Something is of a format that this process does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has format {found}, this build understands up to {newest}; {ADVICE} on this data directory")]
pub struct TooNew {
    /// What it is, as the beginning of a sentence.
    pub what: &'static str,
    /// Its format.
    pub found: u32,
    /// What this process understands.
    pub newest: u32,
}

/// Refuses a format that this process does not understand.
pub fn check(what: &'static str, found: u32) -> Result<(), TooNew> {
    let newest = newest();
    if found > newest { Err(TooNew { what, found, newest }) } else { Ok(()) }
}
