//! From values to a checked configuration.

use std::path::PathBuf;
use std::time::Duration;

use keelson_consensus::MESSAGE_ROOM;

use super::compaction::auto_compaction;
use super::flags::{self, Use};
use super::settings::Settings;
use super::urls::{parse_advertised, parse_listen};
use super::{Config, Discovery, cluster, discovery, gates, logs, security, tokens, traces, web};
use crate::grpc::MAX_MESSAGE;
use crate::tls::Protocol;

const DEFAULT_QUOTA: u64 = 2 << 30;
/// A command travels to other members in one message, with what else is in its batch. Members with other settings must be
/// able to read it, so this does not depend on the flag.
const MAX_REQUEST_BYTES: usize = MAX_MESSAGE - MESSAGE_ROOM;

/// Checks what was said. `warnings` are of where it came from, and come with the configuration.
pub fn build(s: Settings, mut warnings: Vec<String>) -> Result<Config, String> {
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
    if s.is_set("listen-client-urls") && !s.is_set("advertise-client-urls") && !s.from_file {
        return Err("--advertise-client-urls is required when --listen-client-urls is set explicitly".into());
    }
    let advertise_peer = parse_advertised("initial-advertise-peer-urls", &s.text("initial-advertise-peer-urls"))?;
    let initial_cluster = cluster::initial_cluster(&name, &s.text("initial-cluster"), &advertise_peer)?;
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
    let client_security = security::of_clients(&s, &protocol)?;
    let peer_security = security::of_peers(&s, &protocol)?;
    let discovery = discovery::read(&s, &protocol)?;
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
    security::check_urls("client", "", &listen_client, &client_security, &mut warnings)?;
    security::check_urls("client", "", &listen_client_http, &client_security, &mut warnings)?;
    security::check_urls("peer", "peer-", &listen_peer, &peer_security, &mut warnings)?;
    if !client_security.is_there() && listen_metrics.iter().any(|url| url.is_secure) {
        return Err("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".into());
    }
    let tokens = tokens::parse(&s.text("auth-token"), &mut warnings)?;
    check_v2_deprecation(&s, &mut warnings)?;
    let traces = if s.bool("enable-distributed-tracing") {
        let text = |name: &str| s.text(&format!("distributed-tracing-{name}"));
        let rate = s.number("distributed-tracing-sampling-rate")?;
        Some(traces::read(&text("address"), text("service-name"), text("instance-id"), rate)?)
    } else {
        None
    };
    let log_outputs = logs::outputs(&s.text("log-outputs"))?;
    let log_rotation = logs::rotation(s.bool("enable-log-rotation"), &s.text("log-rotation-config-json"), &log_outputs)?;
    Ok(Config {
        traces,
        tokens,
        simple_token_ttl: tokens::simple_token_ttl(s.number("auth-token-ttl")?)?,
        bcrypt_cost: tokens::bcrypt_cost(s.number("bcrypt-cost")?, &mut warnings),
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
        log_outputs,
        log_rotation,
        log_level: s.text("log-level"),
        log_json: match s.text("log-format").as_str() {
            "json" => true,
            "console" => false,
            other => return Err(format!("--log-format must be json or console, not {other:?}")),
        },
        sync_log: !s.bool("unsafe-no-fsync"),
        reuse_port: s.bool("socket-reuse-port"),
        data_dir: data_dir.into(),
        wal_dir: Some(s.text("wal-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        joins_existing,
        name,
        warnings,
    })
}

/// etcd 3.7 takes these stages and stays at its default, whatever is asked for.
fn check_v2_deprecation(s: &Settings, warnings: &mut Vec<String>) -> Result<(), String> {
    const STAGES: &[&str] = &["write-only", "write-only-skip-check", "write-only-drop-data", "gone"];
    let stage = s.text("v2-deprecation");
    if !STAGES.contains(&stage.as_str()) {
        return Err(format!("--v2-deprecation must be one of {}, not {stage:?}", STAGES.join(", ")));
    }
    if s.is_set("v2-deprecation") {
        warnings.push("--v2-deprecation has no effect: there is no v2 store, and etcd 3.8 will not have the flag".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags::Values;
    use crate::config::{AutoCompaction, TokenKind};

    fn config(line: &str) -> Result<Config, String> {
        let values = flags::parse(line.split_whitespace().map(str::to_owned))?;
        build(Settings { values, from_file: false }, Vec::new())
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
    fn a_file_need_not_say_where_clients_reach_the_member() {
        let values = Values::from([("listen-client-urls", "http://127.0.0.1:1".to_owned())]);
        let config = build(Settings { values, from_file: true }, Vec::new()).unwrap();
        assert_eq!(config.advertise_client, ["http://localhost:2379"]);
    }

    #[test]
    fn a_stage_of_the_v2_store_is_taken_and_changes_nothing() {
        assert!(config("").unwrap().warnings.is_empty());
        assert!(config("--v2-deprecation gone").unwrap().warnings[0].contains("--v2-deprecation has no effect"));
        assert!(config("--v2-deprecation not-yet").unwrap_err().contains("write-only-drop-data"));
    }

    #[test]
    fn calls_are_told_of_only_if_it_is_asked_for() {
        let off = "--enable-distributed-tracing=false --distributed-tracing-sampling-rate=7";
        assert!(config(off).unwrap().traces.is_none() && config(off).unwrap().warnings.is_empty());
        let defaults = config("--enable-distributed-tracing").unwrap().traces.unwrap();
        assert_eq!((defaults.address.as_str(), defaults.service.as_str()), ("localhost:4317", "etcd"));
        assert_eq!((defaults.instance.as_str(), defaults.per_million), ("", 0));
        for rate in ["-1", "1000001"] {
            let flags = format!("--enable-distributed-tracing --distributed-tracing-sampling-rate={rate}");
            assert!(config(&flags).unwrap_err().contains(rate));
        }
    }

    #[test]
    fn a_log_file_is_put_aside_only_if_it_is_asked_for() {
        let json = "--log-rotation-config-json {\"maxsize\":1}";
        assert_eq!(config(&format!("--log-outputs /log {json}")).unwrap().log_rotation, None);
        let rotation = config(&format!("--log-outputs /log --enable-log-rotation {json}")).unwrap().log_rotation;
        assert_eq!(rotation.unwrap().max_bytes, 1 << 20);
        assert_eq!(config("--log-outputs /log --enable-log-rotation").unwrap().log_rotation.unwrap().max_bytes, 100 << 20);
        assert!(config("--enable-log-rotation").is_err());
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
}
