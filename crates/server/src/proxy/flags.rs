//! The flags of `keelson gateway start`, with the names and defaults of etcd's.

use std::path::PathBuf;
use std::time::Duration;

use super::targets::Target;
use crate::config::{name_and_value, parse_bool, parse_duration};

/// What is to be done.
#[derive(Debug)]
pub enum Asked {
    /// Serve.
    Start(Settings),
    /// Print this and end well.
    Help(String),
}

/// What the flags say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where clients come to.
    pub listen: Target,
    /// Members of the cluster, unless DNS knows others.
    pub endpoints: Vec<Target>,
    /// Domain whose SRV records name the members; none if empty.
    pub domain: String,
    /// Tells several clusters of one domain apart; may be empty.
    pub service: String,
    /// Members without TLS are taken from DNS, too.
    pub trusts_dns: bool,
    /// Who must have signed the certificates of members that DNS names.
    pub trusted_ca: Option<PathBuf>,
    /// How long a member that cannot be reached is left alone.
    pub retry: Duration,
}

const COMMANDS: &str = "Usage:\n  keelson gateway start [flags]\n    Pass TCP connections on to the members of a cluster.\n";

/// Name, default, and what it is.
const FLAGS: &[(&str, &str, &str)] = &[
    ("listen-addr", "127.0.0.1:23790", "Address to listen on."),
    ("endpoints", "127.0.0.1:2379", "Members of the cluster, comma separated."),
    ("discovery-srv", "", "Domain whose SRV records name the members."),
    ("discovery-srv-name", "", "Tells clusters of one domain apart: _etcd-client-NAME._tcp."),
    ("insecure-discovery", "false", "Take members without TLS from SRV records, too, and reachable or not."),
    ("trusted-ca-file", "", "Authorities that must have signed the certificates of members in SRV records."),
    ("retry-delay", "1m0s", "How long a member that cannot be reached is left alone."),
];

fn help() -> String {
    let mut out = format!("{COMMANDS}\nFlags:\n");
    for (name, default, what) in FLAGS {
        let default = if default.is_empty() { "''" } else { *default };
        out.push_str(&format!("  --{name} {default}\n    {what}\n"));
    }
    out
}

/// Reads what comes after `gateway`.
pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    match arguments.next().as_deref() {
        Some("start") => {}
        None | Some("help" | "--help" | "-h") => return Ok(Asked::Help(COMMANDS.to_owned())),
        Some(other) => return Err(format!("unknown command {other:?} for \"keelson gateway\"")),
    }
    let mut values: Vec<(&str, String)> = Vec::new();
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "--help" | "-h") {
            return Ok(Asked::Help(help()));
        }
        let body = argument.strip_prefix("--").ok_or_else(|| format!("unexpected argument {argument:?}"))?;
        let (name, inline) = name_and_value(body);
        let (name, ..) = FLAGS.iter().find(|(known, ..)| *known == name).ok_or_else(|| format!("unknown flag: --{name}"))?;
        let value = match inline {
            Some(value) => value,
            None if *name == "insecure-discovery" => "true".to_owned(),
            None => arguments.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
        };
        values.push((*name, value));
    }
    settings(&values).map(Asked::Start)
}

fn settings(values: &[(&str, String)]) -> Result<Settings, String> {
    let given = |name: &str| -> Vec<String> {
        values.iter().filter(|(given, _)| *given == name).map(|(_, value)| value.clone()).collect()
    };
    let default = |name: &str| FLAGS.iter().find(|(known, ..)| *known == name).map_or("", |(_, default, _)| *default);
    // The last one counts, but for lists, which grow.
    let text = |name: &str| given(name).pop().unwrap_or_else(|| default(name).to_owned());
    let wrong = |name: &str, why: &str| format!("invalid argument {:?} for \"--{name}\" flag: {why}", text(name));
    let endpoints = match given("endpoints") {
        none if none.is_empty() => default("endpoints").to_owned(),
        all => all.join(","),
    };
    let endpoints = endpoints.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty()).map(Target::parse);
    Ok(Settings {
        listen: Target::parse(&text("listen-addr")).map_err(|e| format!("failed to validate listen address: {e}"))?,
        endpoints: endpoints.collect::<Result<_, _>>()?,
        domain: text("discovery-srv"),
        service: text("discovery-srv-name"),
        trusts_dns: parse_bool(&text("insecure-discovery"))
            .ok_or_else(|| wrong("insecure-discovery", "it must be true or false"))?,
        trusted_ca: Some(text("trusted-ca-file")).filter(|path| !path.is_empty()).map(PathBuf::from),
        retry: parse_duration(&text("retry-delay"))
            .filter(|retry| !retry.is_zero())
            .ok_or_else(|| wrong("retry-delay", "it must be a duration such as 1m0s"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn started(line: &str) -> Settings {
        match parsed(line) {
            Ok(Asked::Start(settings)) => settings,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_etcds_and_flags_change_them() {
        let default = started("start");
        assert_eq!((default.listen.to_string().as_str(), default.retry), ("127.0.0.1:23790", Duration::from_secs(60)));
        assert_eq!(default.endpoints, [Target::parse("127.0.0.1:2379").unwrap()]);
        let line = "start --listen-addr=0.0.0.0:1 --endpoints http://a:1,b:2 --endpoints=c:3 --insecure-discovery \
                    --discovery-srv x.org --discovery-srv-name=n --trusted-ca-file /ca --retry-delay 2s";
        let other = started(line);
        assert_eq!(other.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b:2", "c:3"]);
        assert_eq!((other.domain.as_str(), other.service.as_str(), other.trusts_dns), ("x.org", "n", true));
        assert_eq!((other.trusted_ca, other.retry), (Some("/ca".into()), Duration::from_secs(2)));
    }

    #[test]
    fn help_is_printed_and_mistakes_are_refused() {
        assert!(matches!(parsed(""), Ok(Asked::Help(text)) if text.contains("gateway start")));
        assert!(matches!(parsed("start --help"), Ok(Asked::Help(text)) if text.contains("--retry-delay 1m0s")));
        for (line, why) in [
            ("stop", "unknown command"),
            ("start --nope", "unknown flag: --nope"),
            ("start --endpoints", "needs an argument"),
            ("start stray", "unexpected argument"),
            ("start --endpoints a", "error parsing endpoint"),
            ("start --listen-addr nowhere", "failed to validate listen address"),
            ("start --retry-delay 0", "--retry-delay"),
            ("start --insecure-discovery=maybe", "true or false"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
