//! The configuration file: YAML or JSON with the flags' names as keys. The only place that reads YAML.

use std::path::Path;

use serde_yaml_ng::{Mapping, Value};

use super::flags::{self, Flag, Values};

/// Reads the file. Keys that are not known are ignored, as etcd does, but not without a word.
pub fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Values, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let found = parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    warnings.extend(found.unknown.iter().map(|key| format!("{}: {key} is not a known setting and is ignored", path.display())));
    Ok(found.values)
}

/// What a file says.
#[derive(Default)]
struct Found {
    values: Values,
    /// Keys that mean nothing here.
    unknown: Vec<String>,
}

fn parse(text: &str) -> Result<Found, String> {
    let root: Value = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    let mut found = Found::default();
    match root {
        Value::Null => {}
        Value::Mapping(entries) => found.add("", entries)?,
        _ => return Err("the file must hold a mapping of settings".into()),
    }
    Ok(found)
}

impl Found {
    /// Adds the settings of one section; that without a name has the flags' own names.
    fn add(&mut self, section: &str, entries: Mapping) -> Result<(), String> {
        for (key, value) in entries {
            // As in etcd, in any case.
            let Some(key) = key.as_str().map(str::to_lowercase) else { continue };
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            if SECTIONS.iter().any(|(name, _)| *name == path) {
                match value {
                    Value::Mapping(entries) => self.add(&path, entries)?,
                    Value::Null => {}
                    _ => return Err(format!("invalid {path}: it must hold a mapping of settings")),
                }
                continue;
            }
            let flag = match SECTIONS.iter().find(|(name, _)| *name == section) {
                None if IN_FLAGS_ONLY.contains(&key.as_str()) => continue,
                None => flags::find(&key),
                Some((_, keys)) => keys.iter().find(|(name, _)| *name == key).and_then(|(_, flag)| flags::find(flag)),
            };
            match flag {
                Some(flag) => self.set(flag, value)?,
                None if value.is_null() => {}
                None => self.unknown.push(path),
            }
        }
        Ok(())
    }

    fn set(&mut self, flag: Flag, value: Value) -> Result<(), String> {
        let text = match value {
            Value::Null => return Ok(()),
            Value::String(s) => s,
            Value::Bool(b) => b.to_string(),
            Value::Number(n) => n.to_string(),
            Value::Sequence(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            _ => return Err(format!("setting {} must be a single value", flag.name)),
        };
        flags::check(&flag, &text).map_err(|why| format!("setting {}: {text:?}: {why}", flag.name))?;
        self.values.insert(flag.name, text);
        Ok(())
    }
}

/// etcd's sample file has the first with a value that the flag refuses, and the second may have any value in a file.
const IN_FLAGS_ONLY: &[&str] = &["discovery-fallback", "v2-deprecation"];

/// A key in a section, and the flag that it stands for.
type Key = (&'static str, &'static str);

/// Settings that a file has in sections, with other names than their flags'.
const SECTIONS: &[(&str, &[Key])] = &[
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-cn", "client-cert-allowed-cn"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
    ("socket-options", &[("reuse-port", "socket-reuse-port"), ("reuse-address", "socket-reuse-address")]),
    ("discovery-config", &[("token", "discovery-token")]),
    (
        "discovery-config.client",
        &[
            ("endpoints", "discovery-endpoints"),
            ("dial-timeout", "discovery-dial-timeout"),
            ("request-timeout", "discovery-request-timeout"),
            ("keepalive-time", "discovery-keepalive-time"),
            ("keepalive-timeout", "discovery-keepalive-timeout"),
        ],
    ),
    (
        "discovery-config.client.secure",
        &[
            ("cert", "discovery-cert"),
            ("key", "discovery-key"),
            ("cacert", "discovery-cacert"),
            ("insecure-transport", "discovery-insecure-transport"),
            ("insecure-skip-tls-verify", "discovery-insecure-skip-tls-verify"),
        ],
    ),
    ("discovery-config.client.auth", &[("username", "discovery-user"), ("password", "discovery-password")]),
];

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Result<Values, String> {
        parse(text).map(|found| found.values)
    }

    #[test]
    fn settings_are_read_and_unknown_keys_ignored() {
        let text = "name: a\nquota-backend-bytes: 13\nlog-outputs: [stderr, stdout]\n\
                    watch-progress-notify-interval: 5000000000\ndiscovery-fallback: proxy\nv2-deprecation: not-yet\n";
        let v = values(text).unwrap();
        assert_eq!((v["name"].as_str(), v["quota-backend-bytes"].as_str()), ("a", "13"));
        assert_eq!(v["log-outputs"], "stderr,stdout");
        assert!(!v.contains_key("discovery-fallback") && !v.contains_key("v2-deprecation"));
        assert!(parse("{\"name\": \"json\"}").is_ok());
        assert_eq!(values("Name: a\nClient-Transport-Security: {Cert-File: /c}").unwrap().len(), 2);
        assert!(parse("max-txn-ops: many").is_err());
        assert!(parse("- a").is_err());
    }

    #[test]
    fn who_set_an_unknown_key_is_told_of_it() {
        let text = "nmae: a\ndiscovery:\nclient-transport-security: {cert-fiel: /c}\nproxy: {on: true}\ndata-dir: /d\n";
        let found = parse(text).unwrap();
        assert_eq!(found.unknown, ["nmae", "client-transport-security.cert-fiel", "proxy"]);
        assert_eq!(found.values.len(), 1);
    }

    #[test]
    fn sections_of_certificates_are_read() {
        let text = "client-transport-security:\n  cert-file: /c\n  client-cert-auth: true\n  allowed-hostname: [a, b]\n\
                    peer-transport-security: {cert-file: /p, auto-tls: false, allowed-cn: [c], skip-client-san-verification: true}\n";
        let v = values(text).unwrap();
        assert_eq!(
            (v["cert-file"].as_str(), v["client-cert-auth"].as_str(), v["client-cert-allowed-hostname"].as_str()),
            ("/c", "true", "a,b")
        );
        assert_eq!((v["peer-cert-file"].as_str(), v["peer-cert-allowed-cn"].as_str()), ("/p", "c"));
        assert_eq!((v["peer-auto-tls"].as_str(), v["peer-skip-client-san-verification"].as_str()), ("false", "true"));
        assert!(values("peer-transport-security: x").unwrap_err().contains("invalid peer-transport-security"));
        assert!(values("peer-transport-security: {client-cert-auth: maybe}").is_err());
        assert!(values("peer-transport-security:").unwrap().is_empty());
    }

    #[test]
    fn sections_of_discovery_and_of_sockets_are_read() {
        let text = "discovery-config:\n  token: t\n  client:\n    endpoints: ['http://a:1', 'http://b:1']\n    dial-timeout: 3000000000\n    \
                    secure: {cacert: /ca, insecure-transport: false}\n    auth: {username: u, password: p}\nsocket-options: {reuse-port: true}\n";
        let v = values(text).unwrap();
        let wanted = [
            ("discovery-token", "t"),
            ("discovery-endpoints", "http://a:1,http://b:1"),
            ("discovery-dial-timeout", "3000000000"),
            ("discovery-cacert", "/ca"),
            ("discovery-insecure-transport", "false"),
            ("discovery-user", "u"),
            ("discovery-password", "p"),
            ("socket-reuse-port", "true"),
        ];
        assert_eq!(v.len(), wanted.len());
        wanted.iter().for_each(|(flag, value)| assert_eq!(v[flag], *value, "{flag}"));
        assert!(values("discovery-config: {client: x}").unwrap_err().contains("invalid discovery-config.client"));
    }

    #[test]
    fn every_key_of_a_section_stands_for_a_flag() {
        for (key, flag) in SECTIONS.iter().flat_map(|(_, keys)| *keys) {
            assert!(flags::find(flag).is_some(), "{key}: {flag}");
        }
    }
}
