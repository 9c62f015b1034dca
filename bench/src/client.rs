//! gRPC clients for our own loads: connections, keys, values and fast filling.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{
    MemberAddRequest, PutRequest, RangeRequest, RequestOp, StatusRequest, StatusResponse, TxnRequest,
};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// All our keys are below this.
pub const PREFIX: &[u8] = b"bench/";
/// First key after those.
pub const PREFIX_END: &[u8] = b"bench0";

pub type Kv = KvClient<Channel>;

pub async fn connect(endpoint: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        // Go's clients grow their windows as data flows; a fixed large one is the same without
        // the growing.
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    Ok(endpoint.connect().await?)
}

pub async fn connect_all(endpoint: &str, count: usize) -> Result<Vec<Channel>> {
    let mut channels = Vec::with_capacity(count);
    for _ in 0..count {
        channels.push(connect(endpoint).await?);
    }
    Ok(channels)
}

pub fn kv(channel: Channel) -> Kv {
    // A list of 50,000 objects is one answer of 100 MiB; etcd's clients have no limit either.
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

pub fn key(number: u64) -> Bytes {
    format!("bench/{number:010}").into()
}

/// Bytes that do not compress, so that compression on disk cannot flatter a server.
pub fn value(seed: u64, len: usize) -> Bytes {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// splitmix64: good enough to spread keys and to fill values.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// One put on a connection of its own.
pub async fn put_once(endpoint: &str, key: &'static [u8]) -> Result<()> {
    let request = PutRequest { key: key.into(), value: "x".into(), ..Default::default() };
    kv(connect(endpoint).await?).put(request).await?;
    Ok(())
}

/// What a member says of itself.
pub async fn status(endpoint: &str) -> Result<StatusResponse> {
    let mut maintenance = MaintenanceClient::new(connect(endpoint).await?);
    Ok(maintenance.status(StatusRequest {}).await?.into_inner())
}

/// Adds a member that has no vote.
pub async fn add_learner(endpoint: &str, peer: &str) -> Result<()> {
    let mut cluster = ClusterClient::new(connect(endpoint).await?);
    cluster.member_add(MemberAddRequest { peer_ur_ls: vec![peer.to_owned()], is_learner: true }).await?;
    Ok(())
}

/// The store's revision, by a linearizable read.
pub async fn revision(kv: &mut Kv) -> Result<i64> {
    let request = RangeRequest { key: "bench-ready".into(), ..Default::default() };
    Ok(kv.range(request).await?.into_inner().header.map_or(0, |h| h.revision))
}

/// Writes each of the keys once, in transactions of many puts, several at a time.
pub async fn fill(endpoint: &str, keys: Range<u64>, len: usize) -> Result<()> {
    let batch = (256 * 1024 / (len as u64 + 64)).clamp(1, 512);
    write(endpoint, keys, len, batch, 8).await
}

/// Writes each of the keys once, `batch` puts per transaction, by so many tasks.
pub async fn write(endpoint: &str, keys: Range<u64>, len: usize, batch: u64, tasks: usize) -> Result<()> {
    let next = Arc::new(AtomicU64::new(keys.start));
    let channels = connect_all(endpoint, tasks.min(10)).await?;
    let mut writers = JoinSet::new();
    for task in 0..tasks {
        let channel = channels[task % channels.len()].clone();
        writers.spawn(write_share(kv(channel), next.clone(), keys.end, len, batch));
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

async fn write_share(mut kv: Kv, next: Arc<AtomicU64>, end: u64, len: usize, batch: u64) -> Result<()> {
    loop {
        let start = next.fetch_add(batch, Ordering::Relaxed);
        if start >= end {
            return Ok(());
        }
        let put = |n| PutRequest { key: key(n), value: value(n, len), ..Default::default() };
        if batch == 1 {
            kv.put(put(start)).await?;
            continue;
        }
        let puts = (start..end.min(start + batch)).map(put);
        let success = puts.map(|p| RequestOp { request: Some(Request::RequestPut(p)) }).collect();
        kv.txn(TxnRequest { success, ..Default::default() }).await?;
    }
}
