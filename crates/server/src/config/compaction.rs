//! `--auto-compaction-mode` and `--auto-compaction-retention`: when the store is compacted without being asked.

use std::time::Duration;

use super::flags::parse_duration;

/// When automatic compaction happens and what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Never.
    Off,
    /// Keeps this much time.
    Periodic(Duration),
    /// Keeps this many revisions.
    Revision(i64),
}

/// Reads both.
pub fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, String> {
    let invalid = || format!("--auto-compaction-retention={retention:?} does not fit --auto-compaction-mode={mode:?}");
    match mode {
        "periodic" => {
            // A bare number counts hours.
            let duration = match retention.parse::<u64>() {
                Ok(hours) => Duration::from_secs(hours.checked_mul(3600).ok_or_else(invalid)?),
                Err(_) => parse_duration(retention).ok_or_else(invalid)?,
            };
            Ok(if duration.is_zero() { AutoCompaction::Off } else { AutoCompaction::Periodic(duration) })
        }
        "revision" => match retention.parse::<i64>().map_err(|_| invalid())? {
            0 => Ok(AutoCompaction::Off),
            n if n > 0 => Ok(AutoCompaction::Revision(n)),
            _ => Err(invalid()),
        },
        _ => Err(format!("--auto-compaction-mode must be periodic or revision, not {mode:?}")),
    }
}
