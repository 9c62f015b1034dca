//! What is written before a snapshot is taken, etcd's tools, and how two servers are compared.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    request_op::Request,
};
use keelson_e2e::ports::Reservation;
use keelson_e2e::program::{Program, peer};
use keelson_e2e::server::Server;
use keelson_snapshot::{RestoreOptions, Restored, Status};
use tokio::process::Command;
use tonic::transport::Channel;

/// Where the history is cut off.
pub const COMPACTED: i64 = 400;

pub async fn kv(server: &Server) -> Result<KvClient<Channel>> {
    Ok(KvClient::connect(server.client_url()).await?.max_decoding_message_size(usize::MAX))
}

pub fn put(key: impl AsRef<[u8]>, value: Vec<u8>, lease: i64) -> PutRequest {
    PutRequest { key: key.as_ref().to_vec().into(), value: value.into(), lease, ..Default::default() }
}

fn key(i: usize) -> String {
    format!("key/{:03}\0", i % 200)
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The same history on whatever server: keys that come, change and go, transactions, leases, a compaction.
pub async fn fill(server: &Server) -> Result<()> {
    let mut kv = kv(server).await?;
    let mut leases = LeaseClient::connect(server.client_url()).await?;
    for (id, ttl) in [(1001, 6000), (1002, 7000), (1003, 8000)] {
        leases.lease_grant(LeaseGrantRequest { id, ttl }).await?;
    }
    for i in 0..600 {
        let lease = [0, 1001, 0, 1002, 0][i % 5];
        kv.put(put(key(i), vec![b'a' + (i % 26) as u8; i * 7 % 4000], lease)).await?;
    }
    let success = vec![
        op(Request::RequestPut(put("txn/a", Vec::new(), 0))),
        op(Request::RequestPut(put(b"txn/\xff\0", vec![0; 10], 1001))),
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: "key/050".into(),
            range_end: "key/060".into(),
            ..Default::default()
        })),
    ];
    kv.txn(TxnRequest { success, ..Default::default() }).await?;
    kv.delete_range(DeleteRangeRequest { key: "key/100".into(), range_end: "key/120".into(), ..Default::default() }).await?;
    kv.put(put("large", vec![b'l'; 1_200_000], 0)).await?;
    // Its keys go, in one revision.
    leases.lease_revoke(LeaseRevokeRequest { id: 1002 }).await?;
    kv.compact(CompactionRequest { revision: COMPACTED, physical: true }).await?;
    for i in 0..50 {
        kv.put(put(key(i * 3), vec![b'n'; i], 0)).await?;
    }
    kv.delete_range(DeleteRangeRequest { key: key(3).into(), ..Default::default() }).await?;
    Ok(())
}

/// Runs one of etcd's tools; what it printed.
pub async fn tool(name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(peer(name)?).args(args).env_clear().kill_on_drop(true).output().await?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {args:?}: {}\n{told}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is a text")
}

/// Saves a snapshot beside the server's data, as an operator does.
pub async fn save(server: &Server, name: &str) -> Result<PathBuf> {
    let path = server.file(name);
    tool("etcdctl", &["--endpoints", &server.client_url(), "snapshot", "save", text(&path)?]).await?;
    Ok(path)
}

/// What etcdutl tells of a snapshot, in our words.
pub async fn etcdutl_status(path: &Path) -> Result<Status> {
    let printed = tool("etcdutl", &["snapshot", "status", text(path)?, "-w", "json"]).await?;
    let told: serde_json::Value = serde_json::from_str(&printed)?;
    let number = |field: &str| told[field].as_u64().with_context(|| format!("{field} of {printed}"));
    Ok(Status {
        hash: number("hash")?.try_into()?,
        revision: number("revision")?.try_into()?,
        total_key: number("totalKey")?.try_into()?,
        total_size: number("totalSize")?,
        version: told["version"].as_str().unwrap_or_default().to_owned(),
    })
}

/// A server on free ports that has not been started.
pub fn prepared(program: Program, name: &str) -> Result<Server> {
    Server::member(program, name, Reservation::new()?.ports()?, &["--log-level", "warn"])
}

/// Has etcdutl restore a snapshot to be the data of `server`.
pub async fn etcdutl_restore(path: &Path, server: &Server) -> Result<()> {
    let (data_dir, url) = (server.data_dir(), server.peer_url());
    let cluster = format!("{}={url}", server.name());
    let mut args = vec!["snapshot", "restore", text(path)?, "--data-dir", text(&data_dir)?, "--name", server.name()];
    args.extend(["--initial-cluster", &cluster, "--initial-advertise-peer-urls", &url]);
    tool("etcdutl", &args).await?;
    Ok(())
}

/// What restores a snapshot to be the data of `server`.
pub fn options(path: &Path, server: &Server) -> RestoreOptions {
    RestoreOptions {
        snapshot: path.to_owned(),
        data_dir: Some(server.data_dir()),
        name: server.name().to_owned(),
        initial_cluster: format!("{}={}", server.name(), server.peer_url()),
        initial_advertise_peer_urls: server.peer_url(),
        ..RestoreOptions::default()
    }
}

pub async fn restore(options: RestoreOptions) -> Result<Restored> {
    Ok(tokio::task::spawn_blocking(move || keelson_snapshot::restore(&options)).await??)
}

pub async fn status(path: &Path) -> Result<Status> {
    let path = path.to_owned();
    Ok(tokio::task::spawn_blocking(move || keelson_snapshot::status(&path)).await??)
}

pub async fn read_all(server: &Server, revision: i64) -> Result<RangeResponse> {
    let request = RangeRequest { key: b"\0".to_vec().into(), range_end: b"\0".to_vec().into(), revision, ..Default::default() };
    Ok(kv(server).await?.range(request).await?.into_inner())
}

pub async fn revision(server: &Server) -> Result<i64> {
    Ok(read_all(server, 0).await?.header.context("a header")?.revision)
}

pub async fn hash_kv(server: &Server, revision: i64) -> Result<HashKvResponse> {
    let mut maintenance = MaintenanceClient::connect(server.client_url()).await?;
    Ok(maintenance.hash_kv(HashKvRequest { revision }).await?.into_inner())
}

type Leases = Vec<(i64, i64, Vec<Vec<u8>>)>;

/// Id, granted time to live and keys of each lease.
async fn leases(server: &Server) -> Result<Leases> {
    let mut client = LeaseClient::connect(server.client_url()).await?;
    let mut leases = Leases::new();
    for lease in client.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases {
        let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let told = client.lease_time_to_live(request).await?.into_inner();
        let mut keys: Vec<Vec<u8>> = told.keys.iter().map(|key| key.to_vec()).collect();
        keys.sort();
        leases.push((told.id, told.granted_ttl, keys));
    }
    leases.sort();
    Ok(leases)
}

/// Both have the same keys with the same revisions, versions and leases, now and at every revision that can be read; cannot
/// read the same ones; and go on from the same revision.
pub async fn are_equal(left: &Server, right: &Server) -> Result<()> {
    let newest = revision(left).await?;
    ensure!(newest == revision(right).await?, "revisions {newest} and {}", revision(right).await?);
    for at in (COMPACTED..=newest).step_by(7).chain([newest]) {
        let (l, r) = (read_all(left, at).await?, read_all(right, at).await?);
        ensure!(!l.kvs.is_empty() && l.kvs == r.kvs && l.count == r.count, "they differ at revision {at}");
    }
    for server in [left, right] {
        let refused = read_all(server, COMPACTED - 1).await.expect_err("it is compacted");
        ensure!(refused.to_string().contains("compacted"), "{refused}");
    }
    ensure!(leases(left).await? == leases(right).await?, "{:?}\n{:?}", leases(left).await?, leases(right).await?);
    ensure!(leases(left).await?.iter().any(|(_, _, keys)| keys.len() > 10), "a lease with keys");
    for server in [left, right] {
        let header = kv(server).await?.put(put("after", vec![1], 1001)).await?.into_inner().header;
        ensure!(header.is_some_and(|h| h.revision == newest + 1), "the next revision is not {}", newest + 1);
    }
    Ok(())
}
