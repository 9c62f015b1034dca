//! Flags from the environment: `KEELSONCTL_NAME`, or `ETCDCTL_NAME`, which set-ups made for etcdctl have.

use std::collections::HashMap;
use std::ffi::OsString;

use super::flag::{Flag, Values};
use crate::exit::Failure;

const PREFIXES: [&str; 2] = ["KEELSONCTL_", "ETCDCTL_"];
/// Read by nobody, or not as flags: the API is always 3, and watch takes its key from the other two.
const KNOWN: [&str; 3] = ["API", "WATCH_KEY", "WATCH_RANGE_END"];

/// Sets what the command line has not. Who gives a flag in both places is told so, for one of them would not count.
pub fn apply(
    values: &mut Values,
    flags: impl Iterator<Item = &'static Flag>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let mut set: HashMap<String, String> = environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !value.is_empty())
        .collect();
    for flag in flags {
        let on_the_command_line = values.given(flag.name);
        for prefix in PREFIXES {
            let variable = format!("{prefix}{}", variable(flag));
            let Some(value) = set.remove(&variable) else { continue };
            if on_the_command_line {
                return Err(Failure::error(format!(
                    "conflicting environment variable {variable} is shadowed by the command-line flag --{} \
                     (either unset the environment variable or leave the flag out)",
                    flag.name
                )));
            }
            // The own name goes before the other one.
            if values.given(flag.name) {
                continue;
            }
            if let Err(why) = values.set(flag, &value) {
                eprintln!("Warning: {variable} is ignored, for its value {value:?} cannot be used: {why}");
            }
        }
    }
    let mut left: Vec<_> = set.into_keys().filter(|name| !PREFIXES.iter().any(|prefix| known(name, prefix))).collect();
    left.sort();
    for name in left {
        eprintln!("Warning: {name} is ignored, for it names none of the flags that commands have in common");
    }
    Ok(())
}

/// `endpoints` is `ENDPOINTS`.
fn variable(flag: &Flag) -> String {
    flag.name.to_uppercase().replace('-', "_")
}

fn known(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| KNOWN.contains(&rest))
}

/// The value of `name` under either prefix.
pub fn read(name: &str) -> String {
    let mut values = PREFIXES.iter().filter_map(|prefix| std::env::var(format!("{prefix}{name}")).ok());
    values.find(|value| !value.is_empty()).unwrap_or_default()
}

/// What all flags are, for `--debug`. Secrets are left out.
pub fn tell(values: &Values, flags: impl Iterator<Item = &'static Flag>) {
    let mut lines: Vec<_> = flags
        .map(|flag| {
            let secret = matches!(flag.name, "password" | "user" | "auth-jwt-token") && values.given(flag.name);
            let value = if secret { "(given)" } else { values.text(flag.name) };
            format!("{}{}={value}", PREFIXES[1], variable(flag))
        })
        .collect();
    lines.sort();
    lines.iter().for_each(|line| eprintln!("{line}"));
}

#[cfg(test)]
mod tests {
    use super::super::global::FLAGS;
    use super::super::{Command, flags_of, inherited_by};
    use super::*;
    use crate::command::ROOT;

    fn environment(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>().into_iter()
    }

    fn flag(name: &str) -> &'static Flag {
        FLAGS.iter().find(|flag| flag.name == name).unwrap()
    }

    #[test]
    fn both_names_are_read_and_the_own_one_counts_more() {
        let mut values = Values::of(FLAGS.iter());
        let pairs = [
            ("ETCDCTL_ENDPOINTS", "a:1"),
            ("KEELSONCTL_ENDPOINTS", "b:2"),
            ("ETCDCTL_WRITE_OUT", "json"),
            ("ETCDCTL_DIAL_TIMEOUT", "5"),
            ("ETCDCTL_API", "3"),
            ("ETCDCTL_USER", ""),
            ("ENDPOINTS", "c:3"),
        ];
        apply(&mut values, FLAGS.iter(), environment(&pairs)).unwrap();
        assert_eq!(values.text("endpoints"), "b:2");
        assert_eq!(values.text("write-out"), "json");
        assert_eq!(values.text("dial-timeout"), "2s");
        assert!(!values.given("user"));
    }

    #[test]
    fn flags_that_a_command_has_for_itself_are_not_read() {
        let del = [&ROOT, ROOT.find(b"del").unwrap()];
        let mut values = Values::of(flags_of(&del));
        let pairs = [("ETCDCTL_PREFIX", "true"), ("ETCDCTL_FROM_KEY", "true"), ("ETCDCTL_HEX", "true")];
        apply(&mut values, inherited_by(&del), environment(&pairs)).unwrap();
        assert!(values.on("hex") && !values.on("prefix") && !values.on("from-key"));

        let takes_cluster = |path: &[&'static Command]| inherited_by(path).any(|flag| flag.name == "cluster");
        let endpoint = ROOT.find(b"endpoint").unwrap();
        assert!(takes_cluster(&[&ROOT, endpoint, endpoint.find(b"health").unwrap()]));
        assert!(!takes_cluster(&[&ROOT, ROOT.find(b"defrag").unwrap()]));
    }

    #[test]
    fn a_variable_and_its_flag_together_are_refused() {
        for name in ["ETCDCTL_ENDPOINTS", "KEELSONCTL_ENDPOINTS"] {
            let mut values = Values::of(FLAGS.iter());
            values.set(flag("endpoints"), "a:1").unwrap();
            let failure = apply(&mut values, FLAGS.iter(), environment(&[(name, "a:1")])).unwrap_err();
            assert_eq!(failure.code, crate::exit::ERROR);
            assert!(failure.text().contains(name), "{failure:?}");
        }
    }
}
