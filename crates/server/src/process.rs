//! What the kernel says about this process.

use std::fs;

/// Resources in use.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Usage {
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
    pub open_files: usize,
    pub max_files: u64,
}

/// Reads `/proc/self`; what cannot be read is 0.
#[must_use]
pub fn usage() -> Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields after the command's closing parenthesis; user and system ticks are the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let max_files = limits.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    Usage {
        resident_bytes: resident.unwrap_or(0) * 1024,
        // Linux reports ticks of 1/100 s to user space.
        cpu_seconds: ticks as f64 / 100.0,
        open_files: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        max_files: max_files.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_uses_something() {
        let usage = super::usage();
        assert!(usage.resident_bytes > 0 && usage.open_files > 0 && usage.max_files > 0);
    }
}
