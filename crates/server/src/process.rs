//! What the kernel says about this process.

use std::fs;

/// Resources in use.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Usage {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub max_virtual_bytes: u64,
    pub cpu_seconds: f64,
    pub open_files: usize,
    pub max_files: u64,
    /// Bytes of this network namespace, as the library of etcd counts them.
    pub network_received: u64,
    pub network_sent: u64,
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
    let limit = |name: &str| limits.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next());
    let network = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
    Usage {
        resident_bytes: resident.unwrap_or(0) * 1024,
        // The 21st after the parenthesis.
        virtual_bytes: fields.get(20).and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
        max_virtual_bytes: limit("Max address space").map_or(0, |l| l.parse().unwrap_or(u64::MAX)),
        // Linux reports ticks of 1/100 s to user space.
        cpu_seconds: ticks as f64 / 100.0,
        open_files: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        max_files: limit("Max open files").and_then(|l| l.parse().ok()).unwrap_or(0),
        network_received: octets(&network, "InOctets"),
        network_sent: octets(&network, "OutOctets"),
    }
}

/// A number of the lines for IP: one has the names, the next the numbers.
fn octets(netstat: &str, name: &str) -> u64 {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { return 0 };
    let mut both = names.split_whitespace().zip(numbers.split_whitespace());
    both.find(|(found, _)| *found == name).and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_uses_something() {
        let usage = super::usage();
        assert!(usage.resident_bytes > 0 && usage.open_files > 0 && usage.max_files > 0);
        assert!(usage.virtual_bytes >= usage.resident_bytes && usage.max_virtual_bytes >= usage.virtual_bytes);
    }

    #[test]
    fn bytes_of_the_network_are_those_of_ip() {
        let netstat = "TcpExt: A InOctets\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 123 456\n";
        assert_eq!((super::octets(netstat, "InOctets"), super::octets(netstat, "OutOctets")), (123, 456));
        assert_eq!(super::octets("", "InOctets"), 0);
    }
}
