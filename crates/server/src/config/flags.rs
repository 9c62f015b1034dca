//! The table of flags and the parser: Go's `flag` syntax, where `-name v`, `--name v` and
//! `--name=v` mean the same and a bare boolean flag means true.

use std::collections::BTreeMap;

/// What a flag's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// true or false.
    Bool,
    /// A whole number.
    Number,
    /// A Go duration, such as 1m30s.
    Duration,
}

/// Whether a flag does something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It does what its help says.
    Works,
    /// It tunes something that this store does not have; accepted, with a warning when set.
    NoEffect,
    /// etcd ignores it as well.
    Ignored,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// Default as it is printed.
    pub default: &'static str,
    /// Kind of value.
    pub kind: Kind,
    /// Whether it does something.
    pub role: Use,
    /// One line of help.
    pub help: &'static str,
}

const fn flag(name: &'static str, default: &'static str, kind: Kind, role: Use, help: &'static str) -> Flag {
    Flag { name, default, kind, role, help }
}

use Kind::{Bool, Duration, Number, Text};
use Use::{Ignored, NoEffect, Works};

/// Flags by section, in the order in which help prints them.
pub const SECTIONS: &[(&str, &[Flag])] = &[
    (
        "Member",
        &[
            flag("name", "default", Text, Works, "Name of this member, unique in the cluster."),
            flag("data-dir", "", Text, Works, "Directory of this member's data; NAME.etcd when empty."),
            flag("wal-dir", "", Text, Works, "Directory for the log, if it is to be on another disk than data-dir."),
            flag("snapshot-count", "10000", Number, Works, "Applied log entries that are kept for members that lag."),
            flag("heartbeat-interval", "100", Number, Works, "Milliseconds between a leader's heartbeats."),
            flag(
                "election-timeout",
                "1000",
                Number,
                Works,
                "Milliseconds without a leader before an election; at least 5 heartbeats.",
            ),
            flag("initial-election-tick-advance", "true", Bool, NoEffect, "A lone member elects itself at once anyway."),
            flag("listen-peer-urls", "http://localhost:2380", Text, Works, "Where to listen for other members, comma separated."),
            flag(
                "listen-client-urls",
                "http://localhost:2379",
                Text,
                Works,
                "Where to listen for clients, comma separated: http, https, unix or unixs; http and https may share a port.",
            ),
            flag(
                "listen-client-http-urls",
                "",
                Text,
                Works,
                "Where to serve plain HTTP and JSON apart from the calls, which listen-client-urls then serves alone.",
            ),
            flag("enable-grpc-gateway", "true", Bool, Works, "Serve calls as JSON under /v3/."),
            flag("max-snapshots", "5", Number, NoEffect, "There are no snapshot files to keep."),
            flag("max-wals", "5", Number, NoEffect, "There are no log segment files to keep."),
            flag(
                "quota-backend-bytes",
                "0",
                Number,
                Works,
                "Bytes of retained data after which writes are refused; 0 means 2 GiB, negative no limit.",
            ),
            flag("backend-bbolt-freelist-type", "map", Text, NoEffect, "Tunes bbolt, which is not used."),
            flag("backend-batch-interval", "", Duration, NoEffect, "Tunes bbolt, which is not used."),
            flag("backend-batch-limit", "0", Number, NoEffect, "Tunes bbolt, which is not used."),
            flag("max-txn-ops", "128", Number, Works, "Operations that one transaction may hold."),
            flag("max-request-bytes", "1572864", Number, Works, "Bytes that one request may have."),
            flag("max-concurrent-streams", "4294967295", Number, Works, "Concurrent calls on one connection."),
            flag("grpc-keepalive-min-time", "5s", Duration, NoEffect, "Clients may ping as often as they like."),
            flag("grpc-keepalive-interval", "2h0m0s", Duration, Works, "How often a connection is pinged."),
            flag(
                "grpc-keepalive-timeout",
                "20s",
                Duration,
                Works,
                "How long a ping may go unanswered before the connection is closed.",
            ),
            flag("socket-reuse-port", "false", Bool, Works, "Listen with SO_REUSEPORT."),
            flag("socket-reuse-address", "false", Bool, NoEffect, "SO_REUSEADDR is always set."),
            flag("memory-mlock", "false", Bool, NoEffect, "Memory is not locked."),
            flag("bootstrap-defrag-threshold-megabytes", "0", Number, NoEffect, "There is nothing to defragment at start."),
        ],
    ),
    (
        "Clustering",
        &[
            flag(
                "initial-advertise-peer-urls",
                "http://localhost:2380",
                Text,
                Works,
                "Peer URLs of this member as others reach them.",
            ),
            flag(
                "initial-cluster",
                "",
                Text,
                Works,
                "Members of a new cluster as NAME=URL, comma separated; this member when empty.",
            ),
            flag("discovery-srv", "", Text, Works, "Domain whose SRV records name the members of a new cluster."),
            flag("discovery-srv-name", "", Text, Works, "Tells clusters of one domain apart: _etcd-server-NAME._tcp."),
            flag("discovery-token", "", Text, Works, "Where in the discovery service members of a new cluster meet."),
            flag("discovery-endpoints", "", Text, Works, "Cluster that serves for discovery: URLs, comma separated."),
            flag("discovery-dial-timeout", "2s", Duration, Works, "For a connection to the discovery service."),
            flag("discovery-request-timeout", "5s", Duration, Works, "For a call to the discovery service."),
            flag("discovery-keepalive-time", "2s", Duration, NoEffect, "A connection is made for each look."),
            flag(
                "discovery-keepalive-timeout",
                "6s",
                Duration,
                Works,
                "How long the discovery service may leave a ping unanswered.",
            ),
            flag("discovery-insecure-transport", "true", Bool, Works, "Endpoints without a scheme are http, not https."),
            flag("discovery-insecure-skip-tls-verify", "false", Bool, Works, "Trust whoever answers as the discovery service."),
            flag("discovery-cert", "", Text, Works, "Certificate to show to the discovery service."),
            flag("discovery-key", "", Text, Works, "Private key of discovery-cert."),
            flag("discovery-cacert", "", Text, Works, "Authorities that sign the discovery service's certificate."),
            flag("discovery-user", "", Text, Works, "User of the discovery service, or NAME:PASSWORD."),
            flag("discovery-password", "", Text, Works, "Password of discovery-user."),
            flag("discovery-fallback", "exit", Text, Works, "What to do when discovery fails: exit is all there is."),
            flag("initial-cluster-state", "new", Text, Works, "new to begin a cluster, existing to join one that runs."),
            flag("initial-cluster-token", "etcd-cluster", Text, Works, "Makes ids of clusters with equal URLs differ."),
            flag(
                "advertise-client-urls",
                "http://localhost:2379",
                Text,
                Works,
                "Client URLs of this member as clients reach them.",
            ),
            flag("strict-reconfig-check", "true", Bool, Works, "Refuse changes of members that would risk the quorum."),
            flag("pre-vote", "true", Bool, NoEffect, "Elections always begin with a pre-vote."),
            flag("auto-compaction-mode", "periodic", Text, Works, "periodic or revision."),
            flag(
                "auto-compaction-retention",
                "0",
                Text,
                Works,
                "How much history automatic compaction keeps: a duration or hours, or revisions; 0 turns it off.",
            ),
            flag("max-learners", "1", Number, Works, "Learners that the cluster may have."),
            flag(
                "auto-promote-learners",
                "false",
                Bool,
                Works,
                "While this member leads, learners that have caught up become voters without being asked for. Not a flag of etcd.",
            ),
            flag(
                "disk-stall-handover",
                "0s",
                Duration,
                Works,
                "While this member leads and a write of its log hangs for so long, it hands leadership over; 0 turns it off. \
                 Not a flag of etcd.",
            ),
        ],
    ),
    (
        "Security",
        &[
            flag("cert-file", "", Text, Works, "Certificate that clients' ports show, in PEM form; new files are used at once."),
            flag("key-file", "", Text, Works, "Private key of cert-file."),
            flag("client-cert-auth", "false", Bool, Works, "Clients must show a certificate that trusted-ca-file has signed."),
            flag("trusted-ca-file", "", Text, Works, "Authorities that sign clients' certificates; alone it demands them, too."),
            flag("client-crl-file", "", Text, Works, "Certificates of clients that were taken back, in DER or PEM form."),
            flag("client-cert-allowed-hostname", "", Text, Works, "Host names, for one of which a client's certificate must be."),
            flag("client-cert-allowed-cn", "", Text, Works, "Common names, one of which a client's certificate must have."),
            flag("client-cert-file", "", Text, NoEffect, "The server does not call its own client port."),
            flag("client-key-file", "", Text, NoEffect, "The server does not call its own client port."),
            flag("auto-tls", "false", Bool, Works, "Make a certificate for clients' ports, if none is given."),
            flag("peer-cert-file", "", Text, Works, "Certificate that this member shows others, as server and as caller."),
            flag("peer-key-file", "", Text, Works, "Private key of peer-cert-file."),
            flag(
                "peer-client-cert-auth",
                "false",
                Bool,
                Works,
                "Members must show a certificate that peer-trusted-ca-file has signed.",
            ),
            flag(
                "peer-trusted-ca-file",
                "",
                Text,
                Works,
                "Authorities that sign members' certificates; alone it demands them, too.",
            ),
            flag("peer-crl-file", "", Text, Works, "Certificates of members that were taken back, in DER or PEM form."),
            flag("peer-cert-allowed-cn", "", Text, Works, "Common names, one of which a member's certificate must have."),
            flag("peer-cert-allowed-hostname", "", Text, Works, "Host names, for one of which a member's certificate must be."),
            flag("peer-client-cert-file", "", Text, Works, "Certificate that this member shows as caller, if it is another."),
            flag("peer-client-key-file", "", Text, Works, "Private key of peer-client-cert-file."),
            flag(
                "peer-skip-client-san-verification",
                "false",
                Bool,
                Works,
                "A member's certificate need not be for the address it calls from.",
            ),
            flag(
                "peer-auto-tls",
                "false",
                Bool,
                Works,
                "Make a certificate for other members, if none is given, and take any of theirs.",
            ),
            flag("self-signed-cert-validity", "1", Number, Works, "Years for which certificates are made."),
            flag("cipher-suites", "", Text, Works, "Cipher suites of TLS 1.2, comma separated; all good ones when empty."),
            flag("tls-min-version", "TLS1.2", Text, Works, "Oldest TLS version: TLS1.2 or TLS1.3."),
            flag("cors", "*", Text, Works, "Origins whose pages browsers may let read answers, comma separated; * for all."),
            flag(
                "host-whitelist",
                "*",
                Text,
                Works,
                "Names that http requests may call this server by, comma separated; * for any.",
            ),
            flag("tls-max-version", "", Text, Works, "Newest TLS version: TLS1.2 or TLS1.3; the newest there is when empty."),
        ],
    ),
    (
        "Auth",
        &[
            flag(
                "auth-token",
                "simple",
                Text,
                Works,
                "What users get when they have signed in: simple, or jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=5m.",
            ),
            flag("auth-token-ttl", "300", Number, Works, "Seconds that a simple token is good after it was last used."),
            flag("bcrypt-cost", "10", Number, Works, "How long it takes to hash a password: 4 to 31, each twice the one before."),
        ],
    ),
    (
        "Monitoring",
        &[
            flag("metrics", "basic", Text, Works, "basic or extensive (adds latency histograms of calls)."),
            flag("listen-metrics-urls", "", Text, Works, "More places to serve /metrics, /health, /livez and /readyz."),
            flag("enable-pprof", "false", Bool, NoEffect, "Go profiles do not exist here; use perf."),
        ],
    ),
    (
        "Logging",
        &[
            flag("logger", "zap", Text, NoEffect, "Log lines look like zap's JSON."),
            flag(
                "log-outputs",
                "default",
                Text,
                Works,
                "stderr (also: default), stdout or files, comma separated; or systemd/journal alone.",
            ),
            flag("log-level", "info", Text, Works, "debug, info, warn, error, panic or fatal."),
            flag("log-format", "json", Text, Works, "json or console."),
            flag("enable-log-rotation", "false", Bool, Works, "Put the one file among log-outputs aside when it is full."),
            flag(
                "log-rotation-config-json",
                "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}",
                Text,
                Works,
                "When that is and what becomes of it: maxsize in MiB, maxage in days, maxbackups files (0 for any), whether \
                 their names have local time, whether they are compressed.",
            ),
            flag("warning-unary-request-duration", "300ms", Duration, Works, "Unary calls that take longer are logged."),
            flag("warning-apply-duration", "100ms", Duration, Works, "Applies that take longer are logged."),
        ],
    ),
    (
        "Distributed tracing",
        &[
            flag("enable-distributed-tracing", "false", Bool, Works, "Tell a collector of OpenTelemetry of calls."),
            flag("distributed-tracing-address", "localhost:4317", Text, Works, "Where the collector is (OTLP over gRPC)."),
            flag("distributed-tracing-service-name", "etcd", Text, Works, "Its name there, the same for all members."),
            flag("distributed-tracing-instance-id", "", Text, Works, "This member's own name there."),
            flag("distributed-tracing-sampling-rate", "0", Number, Works, "So many calls of a million without a trace are told."),
        ],
    ),
    (
        "Features",
        &[
            flag(
                "watch-progress-notify-interval",
                "10m0s",
                Duration,
                Works,
                "How often idle watches that asked for it hear of the revision.",
            ),
            flag(
                "experimental-watch-progress-notify-interval",
                "",
                Duration,
                Works,
                "Older name of watch-progress-notify-interval.",
            ),
            flag("compaction-batch-limit", "1000", Number, Works, "Revisions that one step of background removal looks at."),
            flag("compaction-sleep-interval", "0s", Duration, Works, "Pause between steps of background removal."),
            flag(
                "compact-hash-check-time",
                "1m0s",
                Duration,
                Works,
                "How often a leader compares checksums of past compactions; needs --feature-gates=CompactHashCheck=true.",
            ),
            flag(
                "corrupt-check-time",
                "0s",
                Duration,
                Works,
                "How often a leader compares the data of all members, which reads through all of it; 0 turns it off.",
            ),
            flag(
                "feature-gates",
                "",
                Text,
                Works,
                "NAME=true or NAME=false, comma separated: InitialCorruptCheck (compare data with the others before serving), \
                 CompactHashCheck. etcd's other gates are accepted and change nothing.",
            ),
            flag(
                "experimental-initial-corrupt-check",
                "false",
                Bool,
                Works,
                "Older name of --feature-gates=InitialCorruptCheck=true.",
            ),
            flag(
                "experimental-compact-hash-check-enabled",
                "false",
                Bool,
                Works,
                "Older name of --feature-gates=CompactHashCheck=true.",
            ),
            flag("raft-read-timeout", "5s", Duration, NoEffect, "A lost connection shows when a ping goes unanswered."),
            flag("raft-write-timeout", "5s", Duration, NoEffect, "A lost connection shows when a ping goes unanswered."),
            flag("snapshot-catchup-entries", "5000", Number, NoEffect, "snapshot-count says how many entries are kept."),
            flag("v2-deprecation", "write-only", Text, Works, "Accepted in all of etcd's stages; there is no v2 store here."),
            flag("downgrade-check-time", "5s", Duration, NoEffect, "There is no older version to go down to."),
        ],
    ),
    (
        "Unsafe",
        &[
            flag(
                "force-new-cluster",
                "false",
                Bool,
                Works,
                "Begin a cluster of this member alone with the data it has. All others are removed for good.",
            ),
            flag("unsafe-no-fsync", "false", Bool, Works, "Do not sync the log. Loses acknowledged writes when the power goes."),
        ],
    ),
];

/// Flags of old releases that etcd still parses and ignores.
pub const LEGACY: &[&str] = &[
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

const CONTROL: &[Flag] = &[
    flag("config-file", "", Text, Works, "Read the configuration from this file and ignore all other flags."),
    flag("version", "false", Bool, Works, "Print the version and exit."),
    flag("help", "false", Bool, Works, "Print this help and exit."),
    flag("h", "false", Bool, Works, "Print this help and exit."),
];

/// The flag of that name.
#[must_use]
pub fn find(name: &str) -> Option<Flag> {
    let legacy = |name: &&'static str| {
        flag(name, "", if matches!(*name, "force" | "snapshot" | "v" | "vv") { Bool } else { Text }, Ignored, "")
    };
    SECTIONS
        .iter()
        .flat_map(|(_, flags)| *flags)
        .chain(CONTROL)
        .find(|f| f.name == name)
        .copied()
        .or_else(|| LEGACY.iter().find(|l| **l == name).map(legacy))
}

/// Values by flag name.
pub type Values = BTreeMap<&'static str, String>;

/// Reads command-line arguments; the error says what is wrong with which.
pub fn parse(args: impl Iterator<Item = String>) -> Result<Values, String> {
    let mut values = Values::new();
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|b| !b.is_empty()) else {
            return Err(match arg.as_str() {
                "grpc-proxy" => "there is no grpc-proxy yet; keelson gateway start passes connections on as they are".to_owned(),
                _ => format!("'{arg}' is not a valid flag"),
            });
        };
        let (name, inline) = name_and_value(body);
        let Some(flag) = find(name) else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let value = match (inline, flag.kind) {
            (Some(value), _) => value,
            (None, Bool) => "true".to_owned(),
            (None, _) => args.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        check(&flag, &value).map_err(|why| format!("invalid value {value:?} for flag -{name}: {why}"))?;
        values.insert(flag.name, value);
    }
    Ok(values)
}

/// What stands behind a flag's dashes: its name, and the value if that is written with it.
#[must_use]
pub fn name_and_value(flag: &str) -> (&str, Option<String>) {
    match flag.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (flag, None),
    }
}

/// Whether `value` can be what the flag wants.
pub fn check(flag: &Flag, value: &str) -> Result<(), String> {
    let ok = match flag.kind {
        Text => true,
        Bool => parse_bool(value).is_some(),
        Number => value.parse::<i64>().is_ok(),
        Duration => value.is_empty() || parse_duration(value).is_some(),
    };
    if ok { Ok(()) } else { Err("parse error".to_owned()) }
}

/// Go's spellings of a boolean.
#[must_use]
pub fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's durations: numbers with a unit, one after the other; a bare number counts nanoseconds, as
/// configuration files have it. Longer than Go can count, 292 years, there is none.
#[must_use]
pub fn parse_duration(value: &str) -> Option<std::time::Duration> {
    let duration = match value.parse::<u64>() {
        Ok(nanos) => std::time::Duration::from_nanos(nanos),
        Err(_) => parse_units(value)?,
    };
    (duration <= MAX_DURATION).then_some(duration)
}

const MAX_DURATION: std::time::Duration = std::time::Duration::from_nanos(i64::MAX.cast_unsigned());

fn parse_units(value: &str) -> Option<std::time::Duration> {
    let mut rest = value;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += amount
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    std::time::Duration::try_from_secs_f64(total).ok()
}

/// The help text.
#[must_use]
pub fn help() -> String {
    let mut out = String::from(
        "Usage:\n\n  keelson [flags]\n    Start a keelson member.\n\n  keelson --version\n    Show the version.\n\n  keelson --config-file FILE\n    Start with the configuration in FILE; other flags and variables are ignored.\n\n  keelson gateway start [flags]\n    Pass TCP connections on to the members of a cluster; --help after it lists its flags.\n\nEvery flag can also be set as ETCD_FLAG_NAME in the environment.\n",
    );
    for (section, flags) in SECTIONS {
        out.push_str(&format!("\n{section}:\n"));
        for f in *flags {
            let shown = if f.default.is_empty() { "''".to_owned() } else { format!("'{}'", f.default) };
            let note = if f.role == Works { "" } else { " (no effect)" };
            out.push_str(&format!("  --{} {shown}\n    {}{note}\n", f.name, f.help));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Result<Values, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn go_flag_syntax_is_understood() {
        let v = args("-name a --data-dir=/x --log-level warn -unsafe-no-fsync --socket-reuse-port=false").unwrap();
        assert_eq!(v["name"], "a");
        assert_eq!(v["data-dir"], "/x");
        assert_eq!(v["unsafe-no-fsync"], "true");
        assert_eq!(v["socket-reuse-port"], "false");
        assert_eq!(args("--nope").unwrap_err(), "flag provided but not defined: -nope");
        assert_eq!(args("--name").unwrap_err(), "flag needs an argument: -name");
        assert_eq!(args("stray").unwrap_err(), "'stray' is not a valid flag");
        assert!(args("grpc-proxy start").unwrap_err().contains("keelson gateway start"));
        assert!(args("--max-txn-ops ten").unwrap_err().contains("parse error"));
        assert!(args("--snapshot --vv --test.coverprofile x").is_ok());
        assert!(args("--discovery x").is_err());
    }

    #[test]
    fn durations_are_gos() {
        let d = |s| parse_duration(s).map(|d| d.as_millis());
        assert_eq!(d("1m30s"), Some(90_000));
        assert_eq!(d("1.5h"), Some(5_400_000));
        assert_eq!(d("300ms"), Some(300));
        assert_eq!(d("5000000000"), Some(5000));
        assert_eq!(d("5 minutes"), None);
        assert_eq!(d("2562047h"), Some(2_562_047 * 3_600_000));
        assert_eq!(d("2562048h"), None, "timers would overflow");
        assert_eq!(d("18446744073709551615"), None);
    }

    #[test]
    fn every_default_is_a_valid_value() {
        for f in SECTIONS.iter().flat_map(|(_, flags)| *flags) {
            assert!(f.default.is_empty() || check(f, f.default).is_ok(), "{}", f.name);
        }
    }
}
