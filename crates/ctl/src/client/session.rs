//! A lease that lives as long as this process wants it, and waiting in a queue of keys: what locks and elections are made of.

use bytes::Bytes;
use keelson_api::created_at;
use keelson_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{
    LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest,
};
use keelson_api::mvccpb::event::EventType;
use tokio::sync::oneshot;

use super::call::Client;
use super::keep_alive::KeepAlive;
use super::prefix_end;
use super::watch::Watches;
use crate::exit::Failure;

pub struct Session {
    client: Client,
    pub lease: i64,
    /// Resolves when the lease is lost.
    pub lost: oneshot::Receiver<()>,
}

impl Session {
    pub async fn new(client: &Client, ttl: i64) -> Result<Self, Failure> {
        let lease = client.lease_grant(LeaseGrantRequest { ttl, id: 0 }).await?.id;
        let (kept, lost) = oneshot::channel::<()>();
        let mut keep_alive = KeepAlive::new(client, lease);
        tokio::task::spawn_local(async move {
            while keep_alive.next().await.is_some() {}
            drop(kept);
        });
        Ok(Self { client: client.clone(), lease, lost })
    }

    /// The key of this session in the queue of `name`.
    pub fn key(&self, name: &[u8]) -> Bytes {
        [name, format!("/{:x}", self.lease).as_bytes()].concat().into()
    }

    /// Puts `value` under `key` unless it is there, and reads the key or, having put it, who is first of `queue`.
    pub async fn enter(&self, key: &Bytes, value: Bytes, queue: &Bytes) -> Result<TxnResponse, Failure> {
        let put = PutRequest { key: key.clone(), value, lease: self.lease, ..PutRequest::default() };
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let first = Request::RequestRange(oldest(queue));
        let transaction = TxnRequest {
            compare: vec![created_at(key, 0)],
            success: vec![op(Request::RequestPut(put)), op(first.clone())],
            failure: vec![op(Request::RequestRange(get)), op(first)],
        };
        self.client.txn(transaction).await
    }

    /// Waits until no key of `queue` is older than `revision`.
    pub async fn wait_for_turn(&self, queue: &Bytes, revision: i64) -> Result<(), Failure> {
        loop {
            let before =
                RangeRequest { sort_order: SortOrder::Descend.into(), max_create_revision: revision - 1, ..oldest(queue) };
            let found = self.client.range(before).await?;
            let now = found.header.as_ref().map_or(0, |header| header.revision);
            let Some(last) = found.kvs.into_iter().next() else { return Ok(()) };
            let mut watches = Watches::new(&self.client, false);
            watches.add(WatchCreateRequest { key: last.key, start_revision: now, ..WatchCreateRequest::default() });
            while !watches.answer().await?.events.iter().any(|event| event.r#type() == EventType::Delete) {}
        }
    }
}

/// The key of `queue` that was created first.
pub fn oldest(queue: &Bytes) -> RangeRequest {
    RangeRequest {
        key: queue.clone(),
        range_end: prefix_end(queue),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

pub fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

impl Client {
    /// One key, as `get` reads it.
    pub async fn get(&self, key: &Bytes) -> Result<RangeResponse, Failure> {
        self.range(RangeRequest { key: key.clone(), ..RangeRequest::default() }).await
    }
}
