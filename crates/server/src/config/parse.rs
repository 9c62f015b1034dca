//! From values to a checked configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use keelson_consensus::MESSAGE_ROOM;

use super::discovery::{self, Discovery};
use super::file;
use super::flags::{self, Use, Values};
use super::gates::{self, Gates};
use super::security::{self, Security};
use super::tokens::{self, TokenKind};
use super::urls::{ListenUrl, parse_advertised, parse_listen};
use super::web::{self, Web};
use crate::grpc::MAX_MESSAGE;
use crate::tls::Protocol;

/// When automatic compaction happens and what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Never.
    Off,
    /// Keeps this much time.
    Periodic(Duration),
    /// Keeps this many revisions.
    Revision(i64),
}

/// A checked configuration.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub listen_client: Vec<ListenUrl>,
    /// Where plain HTTP is served, if not with the calls.
    pub listen_client_http: Vec<ListenUrl>,
    pub listen_peer: Vec<ListenUrl>,
    pub listen_metrics: Vec<ListenUrl>,
    pub advertise_client: Vec<String>,
    pub advertise_peer: Vec<String>,
    /// Peer URLs of the members of a new cluster, or of the one to be joined, by name.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    /// How they are found if the flags do not name them; then there is only this one above, until they are.
    pub discovery: Discovery,
    pub strict_reconfig: bool,
    pub max_learners: u32,
    /// A leader makes voters of learners that have caught up.
    pub promotes_learners: bool,
    /// A leader whose log waits for the disk for longer hands over; zero for never.
    pub disk_stall_limit: Duration,
    pub cluster_token: String,
    /// The other members are gone for good: go on alone.
    pub forces_new_cluster: bool,
    pub heartbeat_ms: u64,
    pub election_ms: u64,
    pub entries_to_keep: u64,
    /// Bytes; `None` means no limit.
    pub quota: Option<u64>,
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    pub max_concurrent_streams: u32,
    pub auto_compaction: AutoCompaction,
    pub progress_interval: Duration,
    pub removal_step: usize,
    pub removal_pause: Duration,
    pub extensive_metrics: bool,
    pub log_outputs: Vec<String>,
    pub log_level: String,
    pub log_json: bool,
    pub slow_call: Duration,
    pub slow_apply: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub sync_log: bool,
    pub gates: Gates,
    /// How often a leader compares the data of all members; zero for never.
    pub corrupt_check_interval: Duration,
    /// How often it compares checksums of past compactions.
    pub compact_hash_interval: Duration,
    pub reuse_port: bool,
    pub web: Web,
    pub client_security: Security,
    pub peer_security: Security,
    /// What users are given for their passwords.
    pub tokens: TokenKind,
    pub simple_token_ttl: Duration,
    pub bcrypt_cost: u32,
    /// What other members' certificates must be for, if not for the names in their URLs.
    pub peer_server_name: Option<String>,
    /// Only a data directory that was used before may be started with.
    pub joins_existing: bool,
    /// Things the user should know that are not errors.
    pub warnings: Vec<String>,
}

/// What the command line asks for.
pub enum Outcome {
    /// Serve.
    Run(Box<Config>),
    /// Print this and end well.
    Print(String),
}

const DEFAULT_QUOTA: u64 = 2 << 30;
/// A command travels to other members in one message, with what else is in its batch. Members with other settings must be
/// able to read it, so this does not depend on the flag.
const MAX_REQUEST_BYTES: usize = MAX_MESSAGE - MESSAGE_ROOM;

struct Settings {
    values: Values,
}

impl Settings {
    fn text(&self, name: &str) -> String {
        match self.values.get(name) {
            Some(value) => value.clone(),
            None => flags::find(name).map_or_else(String::new, |f| f.default.to_owned()),
        }
    }
    fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
    fn bool(&self, name: &str) -> bool {
        flags::parse_bool(&self.text(name)).unwrap_or(false)
    }
    fn list(&self, name: &str) -> Vec<String> {
        self.text(name).split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    }
    fn number(&self, name: &str) -> Result<i64, String> {
        self.text(name).parse().map_err(|e| format!("--{name}: {e}"))
    }
    fn positive<T: TryFrom<i64>>(&self, name: &str) -> Result<T, String> {
        let n = self.number(name)?;
        T::try_from(n).ok().filter(|_| n > 0).ok_or_else(|| format!("--{name} must be >0 (set to {n})"))
    }
    fn duration(&self, name: &str) -> Result<Duration, String> {
        let text = self.text(name);
        flags::parse_duration(&text).ok_or_else(|| format!("--{name}: {text:?} is not a duration such as 1m30s"))
    }
}

/// Reads arguments, environment and file. An error is a usage error.
pub fn from_command_line(args: impl Iterator<Item = OsString>) -> Result<Outcome, String> {
    let args = args.map(|arg| arg.into_string().map_err(|arg| format!("argument {arg:?} is not valid UTF-8")));
    let mut values = flags::parse(args.collect::<Result<Vec<_>, _>>()?.into_iter())?;
    let asked = |name| values.get(name).and_then(|v| flags::parse_bool(v)) == Some(true);
    if asked("version") {
        return Ok(Outcome::Print(crate::version::text()));
    }
    if asked("help") || asked("h") {
        return Ok(Outcome::Print(flags::help()));
    }
    let mut warnings = Vec::new();
    let config_file = values.get("config-file").cloned().or_else(|| std::env::var("ETCD_CONFIG_FILE").ok());
    match config_file.filter(|f| !f.is_empty()) {
        Some(path) => values = file::read(path.as_ref())?,
        None => add_environment(&mut values, unicode(std::env::vars_os()), &mut warnings)?,
    }
    build(Settings { values }, warnings).map(|config| Outcome::Run(Box::new(config)))
}

/// Variables that are text. Any other has nothing to say here, whoever set it.
fn unicode(variables: impl Iterator<Item = (OsString, OsString)>) -> impl Iterator<Item = (String, String)> {
    variables.filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

/// Adds `ETCD_*` variables for flags that are not on the command line.
fn add_environment(
    values: &mut Values,
    variables: impl Iterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    for (key, value) in variables {
        let Some(name) = key.strip_prefix("ETCD_") else { continue };
        let name = name.to_lowercase().replace('_', "-");
        if matches!(name.as_str(), "unsupported-arch" | "verify" | "config-file") {
            continue;
        }
        match flags::find(&name).filter(|f| !matches!(f.name, "version" | "help" | "h")) {
            Some(flag) => {
                flags::check(&flag, &value).map_err(|why| format!("invalid value {value:?} for {key}: {why}"))?;
                values.entry(flag.name).or_insert(value);
            }
            None => warnings.push(format!("unrecognized environment variable {key}={value}")),
        }
    }
    Ok(())
}

fn build(s: Settings, mut warnings: Vec<String>) -> Result<Config, String> {
    for flag in s.values.keys().filter_map(|name| flags::find(name)) {
        if flag.role == Use::NoEffect && s.values[flag.name] != flag.default {
            warnings.push(format!("--{} has no effect: {}", flag.name, flag.help));
        }
    }
    let name = s.text("name");
    let heartbeat_ms: u64 = s.positive("heartbeat-interval")?;
    let election_ms: u64 = s.positive("election-timeout")?;
    if heartbeat_ms > election_ms / 5 {
        return Err(format!(
            "--election-timeout[{election_ms}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat_ms}ms]"
        ));
    }
    if election_ms > 50_000 {
        return Err(format!("--election-timeout[{election_ms}ms] is too long, and should be set less than 50000ms"));
    }
    if s.is_set("listen-client-urls") && !s.is_set("advertise-client-urls") {
        return Err("--advertise-client-urls is required when --listen-client-urls is set explicitly".into());
    }
    let advertise_peer = parse_advertised("initial-advertise-peer-urls", &s.text("initial-advertise-peer-urls"))?;
    let initial_cluster = initial_cluster(&name, &s.text("initial-cluster"), &advertise_peer)?;
    let joins_existing = match s.text("initial-cluster-state").as_str() {
        "new" => false,
        "existing" => true,
        other => return Err(format!("--initial-cluster-state must be new or existing, not {other:?}")),
    };
    let quota = match s.number("quota-backend-bytes")? {
        0 => Some(DEFAULT_QUOTA),
        n => u64::try_from(n).ok(),
    };
    let data_dir = match s.text("data-dir") {
        dir if dir.is_empty() => format!("{name}.etcd"),
        dir => dir,
    };
    let progress = match s.text("experimental-watch-progress-notify-interval") {
        old if old.is_empty() => s.duration("watch-progress-notify-interval")?,
        _ => s.duration("experimental-watch-progress-notify-interval")?,
    };
    let wanted = s.positive::<usize>("max-request-bytes")?;
    let max_request_bytes = wanted.min(MAX_REQUEST_BYTES);
    if wanted > max_request_bytes {
        warnings.push(format!(
            "--max-request-bytes={wanted} is taken as {max_request_bytes}: members could not send larger requests to each other"
        ));
    }
    let mut gates = gates::parse(&s.text("feature-gates"), &mut warnings)?;
    gates.initial_corrupt_check |= s.bool("experimental-initial-corrupt-check");
    gates.compact_hash_check |= s.bool("experimental-compact-hash-check-enabled");
    let compact_hash_interval = s.duration("compact-hash-check-time")?;
    if compact_hash_interval.is_zero() {
        return Err("--compact-hash-check-time must be >0 (set to 0s)".into());
    }
    let (protocol, left_out) = Protocol::new(&s.text("tls-min-version"), &s.text("tls-max-version"), &s.list("cipher-suites"))?;
    warnings.extend(left_out);
    let client_security = security::of_clients(|name| s.text(name), &protocol)?;
    let peer_security = security::of_peers(|name| s.text(name), &protocol)?;
    let discovery = discovery::read(|name| s.text(name), !s.text("initial-cluster").is_empty(), &protocol)?;
    if joins_existing && matches!(discovery, Discovery::Registry(_)) {
        return Err("discovery URL should not be set when joining existing initial cluster".into());
    }
    let cluster_token = match &discovery {
        Discovery::Registry(registry) => registry.token.clone(),
        _ => s.text("initial-cluster-token"),
    };
    // As etcd has it: without an authority of their own, members have certificates for their domain.
    let peer_server_name = match &discovery {
        Discovery::Dns { domain, .. } if peer_security.trusted_ca.is_none() => Some(domain.clone()),
        _ => None,
    };
    let listen_client = parse_listen("listen-client-urls", &s.text("listen-client-urls"))?;
    let listen_client_http = parse_listen("listen-client-http-urls", &s.text("listen-client-http-urls"))?;
    if let Some(both) = listen_client_http.iter().find(|http| listen_client.iter().any(|url| url.address == http.address)) {
        return Err(format!("cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {both}"));
    }
    let listen_peer = parse_listen("listen-peer-urls", &s.text("listen-peer-urls"))?;
    let listen_metrics = parse_listen("listen-metrics-urls", &s.text("listen-metrics-urls"))?;
    check_security("client", "", &listen_client, &client_security, &mut warnings)?;
    check_security("client", "", &listen_client_http, &client_security, &mut warnings)?;
    check_security("peer", "peer-", &listen_peer, &peer_security, &mut warnings)?;
    if !client_security.is_there() && listen_metrics.iter().any(|url| url.is_secure) {
        return Err("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".into());
    }
    let tokens = tokens::parse(&s.text("auth-token"), &mut warnings)?;
    Ok(Config {
        tokens,
        simple_token_ttl: simple_token_ttl(s.number("auth-token-ttl")?)?,
        bcrypt_cost: bcrypt_cost(s.number("bcrypt-cost")?, &mut warnings),
        gates,
        corrupt_check_interval: s.duration("corrupt-check-time")?,
        compact_hash_interval,
        listen_client,
        listen_client_http,
        web: web::read(s.bool("enable-grpc-gateway"), &s.text("cors"), &s.text("host-whitelist"))?,
        listen_peer,
        listen_metrics,
        client_security,
        peer_security,
        peer_server_name,
        discovery,
        advertise_client: parse_advertised("advertise-client-urls", &s.text("advertise-client-urls"))?,
        advertise_peer,
        initial_cluster,
        strict_reconfig: s.bool("strict-reconfig-check"),
        max_learners: s.positive("max-learners")?,
        promotes_learners: s.bool("auto-promote-learners"),
        disk_stall_limit: s.duration("disk-stall-handover")?,
        cluster_token,
        forces_new_cluster: s.bool("force-new-cluster"),
        heartbeat_ms,
        election_ms,
        entries_to_keep: s.positive("snapshot-count")?,
        quota,
        max_txn_ops: s.positive("max-txn-ops")?,
        max_request_bytes,
        max_concurrent_streams: s.positive("max-concurrent-streams")?,
        slow_call: s.duration("warning-unary-request-duration")?,
        slow_apply: s.duration("warning-apply-duration")?,
        ping_interval: s.duration("grpc-keepalive-interval")?,
        ping_timeout: s.duration("grpc-keepalive-timeout")?,
        auto_compaction: auto_compaction(&s.text("auto-compaction-mode"), &s.text("auto-compaction-retention"))?,
        progress_interval: progress.max(Duration::from_millis(100)),
        removal_step: s.positive("compaction-batch-limit")?,
        removal_pause: s.duration("compaction-sleep-interval")?,
        extensive_metrics: match s.text("metrics").as_str() {
            "basic" => false,
            "extensive" => true,
            other => return Err(format!("--metrics must be basic or extensive, not {other:?}")),
        },
        log_outputs: s.text("log-outputs").split(',').map(str::to_owned).collect(),
        log_level: s.text("log-level"),
        log_json: match s.text("log-format").as_str() {
            "json" => true,
            "console" => false,
            other => return Err(format!("--log-format must be json or console, not {other:?}")),
        },
        sync_log: !s.bool("unsafe-no-fsync"),
        reuse_port: s.bool("socket-reuse-port"),
        data_dir: data_dir.into(),
        joins_existing,
        name,
        warnings,
    })
}

/// Nothing at all means the default.
fn simple_token_ttl(seconds: i64) -> Result<Duration, String> {
    match u32::try_from(seconds) {
        Ok(0) => Ok(Duration::from_secs(300)),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err(format!("--auth-token-ttl={seconds} is not a number of seconds")),
    }
}

/// As in etcd, one that cannot be is the default.
fn bcrypt_cost(cost: i64, warnings: &mut Vec<String>) -> u32 {
    const DEFAULT: u32 = 10;
    u32::try_from(cost).ok().filter(|cost| (4..=31).contains(cost)).unwrap_or_else(|| {
        warnings.push(format!("--bcrypt-cost={cost} is taken as {DEFAULT}: it must be from 4 to 31"));
        DEFAULT
    })
}

/// Refuses https without a certificate, and tells of http with one.
fn check_security(
    kind: &str,
    flags: &str,
    urls: &[ListenUrl],
    security: &Security,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    for url in urls {
        if url.is_secure && !security.is_there() {
            return Err(format!(
                "TLS key/cert (--{flags}cert-file, --{flags}key-file) must be provided for {kind} url {url} with HTTPS scheme"
            ));
        }
        if !url.is_secure && security.is_there() {
            warnings.push(format!("{kind} url {url} is not encrypted; key and cert files are not used for it"));
        }
        if !url.is_secure && security.demands_certificate {
            warnings.push(format!("{kind} url {url} is not encrypted; certificates are not demanded of who connects to it"));
        }
    }
    Ok(())
}

/// The members that the flag names; this one alone when it is empty.
fn initial_cluster(name: &str, text: &str, advertise_peer: &[String]) -> Result<BTreeMap<String, Vec<String>>, String> {
    if text.is_empty() {
        return Ok(BTreeMap::from([(name.to_owned(), advertise_peer.to_vec())]));
    }
    let cluster = parse_cluster(text)?;
    let Some(own) = cluster.get(name) else {
        return Err(format!("couldn't find local name {name:?} in the initial cluster configuration"));
    };
    if own != advertise_peer {
        return Err(format!(
            "--initial-cluster has {name}={} but missing from --initial-advertise-peer-urls={}",
            own.join(","),
            advertise_peer.join(",")
        ));
    }
    Ok(cluster)
}

/// Members and their peer URLs as `--initial-cluster` has them.
pub fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut cluster: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in text.split(',').filter(|m| !m.is_empty()) {
        let Some((member_name, url)) = member.split_once('=').filter(|(name, url)| !name.is_empty() && !url.is_empty()) else {
            return Err(format!("--initial-cluster: {member:?} is not NAME=URL"));
        };
        let urls = parse_advertised("initial-cluster", url)?;
        cluster.entry(member_name.trim().to_owned()).or_default().extend(urls);
    }
    let mut seen = BTreeSet::new();
    for urls in cluster.values_mut() {
        urls.sort();
        if let Some(twice) = urls.iter().find(|u| !seen.insert((*u).clone())) {
            return Err(format!("--initial-cluster has duplicate URL {twice}: each member needs peer URLs of its own"));
        }
    }
    Ok(cluster)
}

fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, String> {
    let invalid = || format!("--auto-compaction-retention={retention:?} does not fit --auto-compaction-mode={mode:?}");
    match mode {
        "periodic" => {
            // A bare number counts hours.
            let duration = match retention.parse::<u64>() {
                Ok(hours) => Duration::from_secs(hours.checked_mul(3600).ok_or_else(invalid)?),
                Err(_) => flags::parse_duration(retention).ok_or_else(invalid)?,
            };
            Ok(if duration.is_zero() { AutoCompaction::Off } else { AutoCompaction::Periodic(duration) })
        }
        "revision" => match retention.parse::<i64>().map_err(|_| invalid())? {
            0 => Ok(AutoCompaction::Off),
            n if n > 0 => Ok(AutoCompaction::Revision(n)),
            _ => Err(invalid()),
        },
        _ => Err(format!("--auto-compaction-mode must be periodic or revision, not {mode:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Result<Config, String> {
        let values = flags::parse(line.split_whitespace().map(str::to_owned))?;
        build(Settings { values }, Vec::new())
    }

    #[test]
    fn defaults_are_etcds() {
        let c = config("").unwrap();
        assert_eq!(c.quota, Some(2 << 30));
        assert_eq!(c.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(c.auto_compaction, AutoCompaction::Off);
        assert_eq!(c.progress_interval, Duration::from_secs(600));
        assert_eq!((c.tokens, c.simple_token_ttl, c.bcrypt_cost), (TokenKind::Simple, Duration::from_secs(300), 10));
    }

    #[test]
    fn costs_of_passwords_that_cannot_be_are_the_default_and_times_that_cannot_be_are_refused() {
        for (flag, cost) in [("4", 4), ("31", 31), ("3", 10), ("32", 10), ("-1", 10)] {
            assert_eq!(config(&format!("--bcrypt-cost {flag}")).unwrap().bcrypt_cost, cost);
        }
        assert!(config("--bcrypt-cost 3").unwrap().warnings[0].contains("--bcrypt-cost=3 is taken as 10"));
        assert_eq!(config("--auth-token-ttl 0").unwrap().simple_token_ttl, Duration::from_secs(300));
        assert!(config("--auth-token-ttl -1").is_err() && config("--auth-token other").is_err());
    }

    #[test]
    fn what_kube_tools_pass_is_taken_and_contradictions_are_refused() {
        let kube = "--data-dir /x --listen-client-urls unix:///x/etcd.sock --advertise-client-urls http://127.0.0.111:0 \
                    --listen-peer-urls http://127.0.0.1:0 -log-level warn --quota-backend-bytes 8589934592";
        assert!(config(kube).is_ok());
        assert!(config("--listen-client-urls http://127.0.0.1:1").unwrap_err().contains("advertise-client-urls"));
        assert!(config("--election-timeout 400").unwrap_err().contains("5 times"));
        assert!(config("--election-timeout 500").is_ok());
        assert!(config("--heartbeat-interval 9223372036854775807").unwrap_err().contains("5 times"));
        assert!(config("--initial-cluster default=http://localhost:1").unwrap_err().contains("missing from"));
        assert!(config("--initial-cluster-state existing").unwrap().joins_existing);
        assert!(config("--initial-cluster-state old").is_err());
        assert_eq!(
            config("--auto-compaction-retention 2").unwrap().auto_compaction,
            AutoCompaction::Periodic(Duration::from_secs(7200))
        );
        assert_eq!(config("--quota-backend-bytes -1").unwrap().quota, None);
        let huge = config("--max-request-bytes 1073741824").unwrap();
        assert!(huge.max_request_bytes + MESSAGE_ROOM <= MAX_MESSAGE, "members could not send it to each other");
        assert!(huge.warnings[0].contains("--max-request-bytes=1073741824 is taken as"), "{:?}", huge.warnings);
    }

    #[test]
    fn plain_http_may_have_ports_of_its_own_but_not_those_of_calls() {
        let c = config("").unwrap();
        assert!(c.web.gateway && c.listen_client_http.is_empty());
        let apart = config("--listen-client-http-urls http://127.0.0.1:1 --enable-grpc-gateway=false").unwrap();
        assert_eq!((apart.listen_client_http.len(), apart.web.gateway), (1, false));
        assert!(config("--listen-client-http-urls http://127.0.0.1:2379").unwrap_err().contains("cannot bind both"));
        assert!(config("--listen-client-http-urls https://127.0.0.1:1").unwrap_err().contains("--cert-file"));
        assert!(config("--cors nonsense").is_err());
    }

    #[test]
    fn kubeadms_command_line_is_taken_and_https_needs_a_certificate() {
        let kubeadm = "--name n --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379 \
            --advertise-client-urls=https://10.0.0.1:2379 --listen-peer-urls=https://10.0.0.1:2380 \
            --initial-advertise-peer-urls=https://10.0.0.1:2380 --initial-cluster=n=https://10.0.0.1:2380 \
            --data-dir=/var/lib/etcd --cert-file=/pki/server.crt --key-file=/pki/server.key --trusted-ca-file=/pki/ca.crt \
            --client-cert-auth=true --peer-cert-file=/pki/peer.crt --peer-key-file=/pki/peer.key \
            --peer-trusted-ca-file=/pki/ca.crt --peer-client-cert-auth=true --snapshot-count=10000 \
            --listen-metrics-urls=http://127.0.0.1:2381 --feature-gates=InitialCorruptCheck=true \
            --watch-progress-notify-interval=5s";
        let c = config(kubeadm).unwrap();
        assert!(c.client_security.demands_certificate && c.peer_security.demands_certificate);
        let client = "--listen-client-urls https://127.0.0.1:1 --advertise-client-urls https://127.0.0.1:1";
        assert!(config(client).unwrap_err().contains("--cert-file, --key-file"));
        assert!(config(&format!("{client} --auto-tls")).is_ok());
        assert!(config("--listen-peer-urls https://127.0.0.1:1").unwrap_err().contains("--peer-cert-file"));
        assert!(config("--listen-metrics-urls https://127.0.0.1:1").unwrap_err().contains("metrics secure url"));
        assert!(config("--tls-min-version TLS1.0").is_err());
        let plain = config("--cert-file /a --key-file /b --trusted-ca-file /c").unwrap();
        assert_eq!(plain.warnings.len(), 2, "{:?}", plain.warnings);
    }

    #[test]
    fn the_environment_counts_less_than_the_command_line() {
        let mut values = flags::parse(["--name".to_owned(), "flag".to_owned()].into_iter()).unwrap();
        let mut warnings = Vec::new();
        let vars = [("ETCD_NAME", "env"), ("ETCD_DATA_DIR", "/d"), ("ETCD_NOPE", "1"), ("ETCD_VERIFY", "all")];
        add_environment(&mut values, vars.iter().map(|(k, v)| ((*k).into(), (*v).into())), &mut warnings).unwrap();
        assert_eq!((values["name"].as_str(), values["data-dir"].as_str()), ("flag", "/d"));
        assert_eq!(warnings.len(), 1);
    }
    #[test]
    fn arguments_and_variables_that_are_not_text_do_not_bring_the_process_down() {
        use std::os::unix::ffi::OsStringExt;
        let garbage = || OsString::from_vec(vec![b'E', 0xff]);
        assert!(from_command_line([garbage()].into_iter()).err().unwrap().contains("not valid UTF-8"));
        let variables = [(garbage(), "1".into()), ("ETCD_NAME".into(), garbage()), ("ETCD_DATA_DIR".into(), "/d".into())];
        let text: Vec<_> = unicode(variables.into_iter()).collect();
        assert_eq!(text, [("ETCD_DATA_DIR".to_owned(), "/d".to_owned())]);
    }
}
