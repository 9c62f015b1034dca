//! The configuration file: YAML or JSON with the flags' names as keys. The only place that reads YAML.

use std::path::Path;

use serde_yaml_ng::Value;

use super::flags::{self, Values};

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
        let Some(flag) = key.as_str().and_then(flags::find) else { continue };
        let text = match value {
            Value::Null => continue,
            Value::String(s) => s,
            Value::Bool(b) => b.to_string(),
            Value::Number(n) => n.to_string(),
            Value::Sequence(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            _ => return Err(format!("setting {} must be a single value", flag.name)),
        };
        flags::check(&flag, &text).map_err(|why| format!("setting {}: {text:?}: {why}", flag.name))?;
        values.insert(flag.name, text);
    }
    Ok(values)
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
}
