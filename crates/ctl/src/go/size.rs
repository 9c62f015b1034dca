//! Sizes for people, as etcdctl's `humanize` rounds them.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// In powers of 1000; one digit after the point below ten.
pub fn human(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut power = 0;
    let mut unit = 1u64;
    while power + 1 < UNITS.len() && bytes / unit >= 1000 {
        power += 1;
        unit *= 1000;
    }
    let value = (bytes as f64 / unit as f64 * 10.0 + 0.5).floor() / 10.0;
    if value < 10.0 { format!("{value:.1} {}", UNITS[power]) } else { format!("{value:.0} {}", UNITS[power]) }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_have_two_digits_or_three() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(10), "10 B");
        assert_eq!(human(999), "999 B");
        assert_eq!(human(1000), "1.0 kB");
        assert_eq!(human(20480), "20 kB");
        assert_eq!(human(2_147_483_648), "2.1 GB");
        assert_eq!(human(u64::MAX), "18 EB");
    }
}
