//! What the figures were measured on. A figure without its machine says nothing.

use std::fs;
use std::path::Path;

/// Facts that go with every line of the CSV.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub cpu: String,
    pub cores: usize,
    pub mem_gib: f64,
    pub kernel: String,
    pub filesystem: String,
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Type of the file system that holds `path`: the longest mount point above it.
fn filesystem(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

/// The machine, and the file system under `dir`.
pub fn gather(dir: &Path) -> Facts {
    let unknown = || "unknown".to_owned();
    let kib = field("/proc/meminfo", "MemTotal").and_then(|v| v.split(' ').next()?.parse().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
    Facts {
        cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
        cores: std::thread::available_parallelism().map_or(0, Into::into),
        mem_gib: (kib.unwrap_or(0.0f64) / (1 << 20) as f64 * 10.0).round() / 10.0,
        kernel: kernel.map_or_else(|_| unknown(), |k| k.trim().to_owned()),
        filesystem: filesystem(dir).unwrap_or_else(unknown),
    }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// `2026-02-03T04:05:06Z`. Howard Hinnant's days-to-civil, to need no date library.
pub fn utc(epoch: u64) -> String {
    let (days, secs) = ((epoch / 86_400) as i64 + 719_468, epoch % 86_400);
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
