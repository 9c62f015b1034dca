//! When a member is given up and replaced.

use std::time::Duration;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// When a member is given up and replaced. A member whose volume is there is restarted, never replaced.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Healing {
    /// How long the only node that can reach a volume must be deleted, or marked `node.kubernetes.io/out-of-service`,
    /// before the volume counts as lost.
    #[serde(default = "five_minutes")]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,5}(s|m|h)$')").message("healing.replaceAfter must be a whole number of seconds, minutes or hours, such as 30s, 5m or 1h"))]
    pub replace_after: String,
}

impl Default for Healing {
    fn default() -> Self {
        Self { replace_after: five_minutes() }
    }
}

impl Healing {
    /// What `replaceAfter` says; the default when it is not readable, which the API server does not let through.
    pub fn replace_after(&self) -> Duration {
        duration(&self.replace_after).unwrap_or(Duration::from_secs(300))
    }
}

fn five_minutes() -> String {
    "5m".into()
}

/// A whole number with a unit: `30s`, `5m`, `2h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_seconds_minutes_and_hours() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("2h", 7200), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "5", "5d", "-1s", "m5"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
