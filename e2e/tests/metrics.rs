//! After the same requests there are the same metrics as etcd's: names, types, labels, and bounds of histograms.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{
    CompactionRequest, DefragmentRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, SnapshotRequest, TxnRequest,
    WatchCreateRequest, WatchRequest,
};
use keelson_e2e::program::Program;
use keelson_e2e::raw::call::{Call, Connection};
use keelson_e2e::raw::framed_as;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use regex::Regex;

use crate::clustering::http;

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The insides of Go's runtime, of bbolt and of the proxy.
const ETCDS_OWN: &[&str] = &["go_", "etcd_server_go_version", "etcd_debugging_disk_backend_commit_", "etcd_grpc_proxy_"];
/// etcd counts a stream that failed only if it has not ended by then, and what cannot be read ends a stream: it is chance.
const BY_CHANCE: &str = "etcd_network_server_stream_failures_total";
/// No message.
const UNREADABLE: &[u8] = &[0xff; 3];

/// What there is to know of one name.
#[derive(Debug, Default, PartialEq)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
    bounds: BTreeSet<String>,
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() }
}

/// At least one of every kind of request that is counted apart.
async fn use_it(server: &Server) -> Result<()> {
    let mut kv = KvClient::connect(server.client_url()).await?;
    let watch = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest { key: "k".into(), ..Default::default() })),
    };
    let requests = futures::stream::iter([watch]).chain(futures::stream::pending());
    let mut watch = WatchClient::connect(server.client_url()).await?.watch(requests).await?.into_inner();
    watch.message().await?.context("the watch is there")?;
    let revision = kv.put(put("k")).await?.into_inner().header.context("a header")?.revision;
    watch.message().await?.context("the event has come")?;
    let range = RangeRequest { key: "k".into(), ..Default::default() };
    kv.range(range.clone()).await?;
    for request in [Request::RequestRange(range), Request::RequestPut(put("l"))] {
        kv.txn(TxnRequest { success: vec![RequestOp { request: Some(request) }], ..Default::default() }).await?;
    }
    let mut leases = LeaseClient::connect(server.client_url()).await?;
    leases.lease_grant(LeaseGrantRequest { ttl: 100, id: 0 }).await?;
    kv.compact(CompactionRequest { revision, physical: true }).await?;
    let mut maintenance = MaintenanceClient::connect(server.client_url()).await?;
    maintenance.defragment(DefragmentRequest {}).await?;
    let mut snapshot = maintenance.snapshot(SnapshotRequest {}).await?.into_inner();
    while snapshot.message().await?.is_some() {}
    let raw = Connection::open(server).await?;
    for path in ["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"] {
        raw.call(&Call::range().path(path).body(framed_as(0, None, UNREADABLE)).hangs()).await?;
    }
    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        http(&server.client_url(), path).await?;
    }
    Ok(())
}

fn families(text: &str) -> Result<BTreeMap<String, Family>> {
    let label = Regex::new("([a-zA-Z_]+)=\"([^\"]*)\"")?;
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        if let Some((of, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.insert(of.to_owned(), Family { kind: kind.to_owned(), ..Family::default() });
            name = Some(of.to_owned());
        } else if let Some(family) = name.as_ref().filter(|_| !line.starts_with('#')).and_then(|name| families.get_mut(name)) {
            for found in label.captures_iter(line) {
                family.labels.insert(found[1].to_owned());
                if &found[1] == "le" {
                    // Go writes large numbers in another way.
                    family.bounds.insert(found[2].parse::<f64>()?.to_string());
                }
            }
        }
    }
    Ok(families)
}

async fn metrics(program: Program) -> Result<String> {
    let mut server = Server::start(program, &["--metrics=extensive"]).await?;
    use_it(&server).await.with_context(|| server.log_tail())?;
    let mut text = String::new();
    // Keelson answers before it is done.
    wait::until("the defragmentation has ended", LIMIT, async || {
        text = http(&server.client_url(), "/metrics").await?;
        Ok(text.contains("etcd_disk_backend_defrag_duration_seconds_count 1"))
    })
    .await?;
    server.stop().await?;
    Ok(text)
}

#[tokio::test]
async fn there_are_the_metrics_of_etcd_and_no_others() -> Result<()> {
    let (etcds, own) = (metrics(Program::Etcd).await?, metrics(Program::under_test()?).await?);
    let (mut expected, mut found) = (families(&etcds)?, families(&own)?);
    let failures = found.remove(BY_CHANCE).context("nothing is told of streams that failed")?;
    if let Some(etcds) = expected.remove(BY_CHANCE) {
        assert_eq!(failures, etcds);
    }
    assert!(expected.len() > 100, "{expected:?}");
    let mut wrong = Vec::new();
    for (name, family) in expected.iter().filter(|(name, _)| !ETCDS_OWN.iter().any(|own| name.starts_with(own))) {
        if found.get(name) != Some(family) {
            wrong.push(format!("{name}: {:?}, in etcd {family:?}", found.get(name)));
        }
    }
    wrong.extend(found.keys().filter(|name| !expected.contains_key(*name)).map(|name| format!("{name} is not in etcd")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for text in [&etcds, &own] {
        for request in ["Put", "Range", "Txn", "ReadonlyTxn", "LeaseGrant", "Compaction"] {
            let line = format!("etcd_server_request_duration_seconds_count{{success=\"true\",type=\"{request}\"}}");
            assert!(text.contains(&line), "{line} is missing");
        }
        for command in ["Put", "Txn", "LeaseGrant", "Compaction"] {
            let line = format!("etcd_server_apply_duration_seconds_count{{op=\"{command}\",success=\"true\",version=\"v3\"}} ");
            assert!(text.contains(&line), "{line} is missing");
        }
        assert!(text.contains("etcd_server_healthchecks_total{name=\"non_learner\",status=\"success\",type=\"readyz\"} 1"));
    }
    for stream in ["watch", "lease-keepalive"] {
        let line = format!("{BY_CHANCE}{{API=\"{stream}\",Type=\"receive\"}} 1");
        assert!(own.contains(&line), "{line} is missing");
    }
    Ok(())
}
