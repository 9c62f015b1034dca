//! Fuzz targets for flags and their values.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use keelson_fuzz::target;

use super::flags::{self, Kind, SECTIONS};
use super::urls::{parse_advertised, parse_listen};
use super::{Outcome, from_command_line};

/// Values that some flag takes, some at the edge of what it takes.
const VALUES: &[&str] = &[
    "0",
    "1",
    "5",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "true",
    "false",
    "1h",
    "5s",
    "2562047h47m16.8s",
    "99999999999h",
    "0.000001ns",
    ".",
    "http://127.0.0.1:1",
    "http://[::1]:2379",
    "unix://x",
    "https://a:1",
    "http://localhost:2380,http://127.0.0.1:0",
    "default=http://localhost:2380",
    "a=b,c",
    "periodic",
    "revision",
    "new",
    "existing",
    "json",
    "console",
    "basic",
    "extensive",
    "",
    ",",
    "=",
];

/// Configurations that are taken can also be run: nothing in them overflows a timer or a count.
fn check(args: Vec<OsString>) {
    match from_command_line(args.into_iter()) {
        Ok(Outcome::Run(config)) => {
            let now = std::time::Instant::now();
            assert!(now.checked_add(config.progress_interval.mul_f64(1.1)).is_some());
            assert!(now.checked_add(config.removal_pause).is_some());
            assert!((5 * config.heartbeat_ms..=50_000).contains(&config.election_ms));
            assert!(config.removal_step > 0 && config.max_request_bytes < 1 << 32 && config.max_txn_ops > 0);
        }
        Ok(Outcome::Print(text)) => assert!(!text.is_empty()),
        Err(e) => assert!(!e.is_empty()),
    }
}

#[test]
fn flags_with_values_that_fit_or_do_not_give_a_configuration_or_an_error() {
    let flags: Vec<_> = SECTIONS.iter().flat_map(|(_, flags)| *flags).collect();
    target!(10_000).with_type::<Vec<(u8, u8, Option<String>, bool)>>().for_each(|chosen| {
        let mut args = Vec::new();
        for (flag, value, other, inline) in chosen {
            let flag = flags[usize::from(*flag) % flags.len()];
            let value = other.as_deref().unwrap_or(VALUES[usize::from(*value) % VALUES.len()]);
            if *inline || flag.kind == Kind::Bool {
                args.push(format!("--{}={value}", flag.name).into());
            } else {
                args.extend([format!("-{}", flag.name).into(), OsString::from(value)]);
            }
        }
        check(args);
    });
}

#[test]
fn any_arguments_give_a_configuration_or_an_error() {
    target!(10_000).with_type::<Vec<Vec<u8>>>().for_each(|args| {
        // A file would be read.
        if !args.iter().any(|a| a.windows(11).any(|w| w == b"config-file")) {
            check(args.iter().map(|a| OsString::from_vec(a.clone())).collect());
        }
    });
}

#[test]
fn any_text_is_a_duration_that_timers_can_hold_or_none() {
    target!(40_000).with_type::<(Vec<(u64, u8)>, String)>().for_each(|(parts, text)| {
        let unit = |n: u8| ["h", "m", "s", "ms", "us", "µs", "ns", ".", "-", ""][usize::from(n) % 10];
        let made: String = parts.iter().map(|(n, u)| format!("{}{}", n >> (u / 4), unit(*u))).collect();
        for text in [made.as_str(), text] {
            if let Some(duration) = flags::parse_duration(text) {
                assert!(std::time::Instant::now().checked_add(duration.mul_f64(1.1)).is_some());
            }
            let _ = flags::parse_bool(text);
        }
    });
}

#[test]
fn any_text_is_a_list_of_urls_or_an_error_that_names_the_flag() {
    target!(20_000).with_type::<(Vec<u8>, String)>().for_each(|(pieces, text)| {
        let known =
            ["http://", "127.0.0.1", ":80", ":", "[::1]", "localhost", "/", "unix://", ",", "@", "65536", "%", "é", "https"];
        let made: String = pieces.iter().map(|n| known[usize::from(*n) % known.len()]).collect();
        for text in [made.as_str(), text] {
            if let Err(e) = parse_listen("listen-x", text) {
                assert!(e.contains("--listen-x"), "{e}");
            }
            match parse_advertised("advertise-x", text) {
                Ok(urls) => assert!(urls.is_sorted()),
                Err(e) => assert!(e.contains("--advertise-x"), "{e}"),
            }
        }
    });
}
