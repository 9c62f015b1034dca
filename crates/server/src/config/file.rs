//! The configuration file: YAML or JSON with the flags' names as keys. The only place that reads YAML.

use std::path::Path;

use serde_yaml_ng::Value;

use super::flags::{self, Flag, Values};

/// Reads the file; keys that are not flags are ignored, as etcd does.
pub fn read(path: &Path) -> Result<Values, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    parse(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn parse(text: &str) -> Result<Values, String> {
    let root: Value = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    let mut values = Values::new();
    let entries = match root {
        Value::Null => return Ok(values),
        Value::Mapping(entries) => entries,
        _ => return Err("the file must hold a mapping of settings".into()),
    };
    for (key, value) in entries {
        let Some(key) = key.as_str() else { continue };
        match (SECTIONS.iter().find(|section| section.name == key), value) {
            (Some(section), Value::Mapping(entries)) => {
                for (key, value) in entries {
                    let flag = key.as_str().and_then(|key| section.flag(key)).and_then(|name| flags::find(&name));
                    set(&mut values, flag, value)?;
                }
            }
            (Some(_), Value::Null) => {}
            (Some(_), _) => return Err(format!("invalid {key}: it must hold a mapping of settings")),
            (None, _) if key == IN_FLAGS_ONLY => {}
            (None, value) => set(&mut values, flags::find(key), value)?,
        }
    }
    Ok(values)
}

/// etcd's sample file has it with a value that the flag refuses.
const IN_FLAGS_ONLY: &str = "discovery-fallback";

/// Settings that a file has in a section of their own, with other names than their flags'.
struct Section {
    name: &'static str,
    /// What most flags have before the name.
    prefix: &'static str,
    others: &'static [(&'static str, &'static str)],
}

const SAME: &[&str] =
    &["cert-file", "key-file", "client-cert-file", "client-key-file", "client-cert-auth", "trusted-ca-file", "auto-tls"];

const SECTIONS: &[Section] = &[
    Section {
        name: "client-transport-security",
        prefix: "",
        others: &[("allowed-cn", "client-cert-allowed-cn"), ("allowed-hostname", "client-cert-allowed-hostname")],
    },
    Section {
        name: "peer-transport-security",
        prefix: "peer-",
        others: &[
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    },
];

impl Section {
    fn flag(&self, key: &str) -> Option<String> {
        if SAME.contains(&key) {
            return Some(format!("{}{key}", self.prefix));
        }
        self.others.iter().find(|(name, _)| *name == key).map(|(_, flag)| (*flag).to_owned())
    }
}

fn set(values: &mut Values, flag: Option<Flag>, value: Value) -> Result<(), String> {
    let Some(flag) = flag else { return Ok(()) };
    let text = match value {
        Value::Null => return Ok(()),
        Value::String(s) => s,
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::Sequence(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        _ => return Err(format!("setting {} must be a single value", flag.name)),
    };
    flags::check(&flag, &text).map_err(|why| format!("setting {}: {text:?}: {why}", flag.name))?;
    values.insert(flag.name, text);
    Ok(())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_unknown_keys_ignored() {
        let text = "name: a\nquota-backend-bytes: 13\nlog-outputs: [stderr, stdout]\nwatch-progress-notify-interval: 5000000000\ndiscovery-fallback: proxy\n";
        let v = parse(text).unwrap();
        assert_eq!((v["name"].as_str(), v["quota-backend-bytes"].as_str()), ("a", "13"));
        assert_eq!(v["log-outputs"], "stderr,stdout");
        assert!(!v.contains_key("discovery-fallback"));
        assert!(parse("{\"name\": \"json\"}").is_ok());
        assert!(parse("max-txn-ops: many").is_err());
        assert!(parse("- a").is_err());
    }

    #[test]
    fn sections_of_certificates_are_read() {
        let text = "client-transport-security:\n  cert-file: /c\n  client-cert-auth: true\n  allowed-hostname: [a, b]\n\
                    peer-transport-security: {cert-file: /p, auto-tls: false, allowed-cn: [c], skip-client-san-verification: true}\n";
        let v = parse(text).unwrap();
        assert_eq!(
            (v["cert-file"].as_str(), v["client-cert-auth"].as_str(), v["client-cert-allowed-hostname"].as_str()),
            ("/c", "true", "a,b")
        );
        assert_eq!((v["peer-cert-file"].as_str(), v["peer-cert-allowed-cn"].as_str()), ("/p", "c"));
        assert_eq!((v["peer-auto-tls"].as_str(), v["peer-skip-client-san-verification"].as_str()), ("false", "true"));
        assert!(parse("peer-transport-security: x").unwrap_err().contains("invalid peer-transport-security"));
        assert!(parse("peer-transport-security: {client-cert-auth: maybe}").is_err());
        assert!(parse("peer-transport-security:").unwrap().is_empty());
    }
}
