//! The clients that write while the server is about to die: each sends one request after the other
//! and notes what it sent before it sends it, and what it was told.

use std::sync::Arc;

use bytes::Bytes;
use keelson_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_api::etcdserverpb::request_op::Request as Op;
use keelson_api::etcdserverpb::response_op::Response as Answer;
use keelson_api::etcdserverpb::{
    CompactionRequest, Compare, DefragmentRequest, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RequestOp, ResponseHeader, TxnRequest,
};
use parking_lot::{Mutex, MutexGuard};
use rand::Rng;
use rand::rngs::StdRng;
use tonic::Status;

use super::clients::{Clients, is_silence};
use super::history::{Branch, Changes, History, Lease};
use super::value;

/// Few keys, so that writes meet.
const KEYS: u32 = 40;
/// No lease may end by itself while a test runs.
const TTL: i64 = 1_000_000;

pub fn key(i: u32) -> Bytes {
    format!("k/{i:02}").into()
}

pub fn lease_prefix(lease: i64) -> String {
    format!("l/{lease:012}/")
}

pub struct Writer {
    pub clients: Clients,
    pub history: Arc<Mutex<History>>,
    pub rng: StdRng,
    pub largest_value: usize,
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |h| h.revision)
}

fn deleted(response: DeleteRangeResponse) -> Changes {
    response.prev_kvs.into_iter().map(|kv| (kv.key, None)).collect()
}

fn put_op(key: &Bytes, value: Bytes) -> RequestOp {
    RequestOp { request: Some(Op::RequestPut(PutRequest { key: key.clone(), value, ..Default::default() })) }
}

impl Writer {
    /// Writes until the server is silent.
    pub async fn run(mut self) {
        loop {
            let done = match self.rng.random_range(0..100) {
                0..52 => self.put().await,
                52..67 => self.txn().await,
                67..79 => self.delete_one().await,
                79..82 => self.delete_range().await,
                82..88 => self.grant().await,
                88..91 => self.revoke().await,
                91..94 => self.compact().await,
                94..97 => self.defragment().await,
                _ => self.hash().await,
            };
            if let Err(status) = done
                && is_silence(&status)
            {
                return;
            }
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    fn any_key(&mut self) -> Bytes {
        key(self.rng.random_range(0..KEYS))
    }

    fn fresh_value(&mut self) -> (u64, Bytes) {
        let id = self.history().fresh_id();
        let size = self.rng.random_range(0..=self.largest_value);
        (id, value::make(id, size))
    }

    /// Notes the answer to a write: where it took effect and what it changed.
    fn note<T>(&self, write: usize, answer: Result<T, Status>, told: impl FnOnce(T) -> (i64, Changes)) -> Result<(), Status> {
        match answer {
            Ok(answer) => {
                let (revision, changes) = told(answer);
                self.history().acknowledged(write, revision, changes);
                Ok(())
            }
            Err(status) => {
                if !is_silence(&status) {
                    self.history().failed(write);
                }
                Err(status)
            }
        }
    }

    async fn put(&mut self) -> Result<(), Status> {
        let key = self.any_key();
        self.put_into(key, 0).await
    }

    async fn put_into(&mut self, key: Bytes, lease: i64) -> Result<(), Status> {
        let (id, value) = self.fresh_value();
        let write = self.history().begin(vec![Branch { puts: vec![(key.clone(), id)], deletes: Vec::new() }]);
        let answer = self.clients.kv.put(PutRequest { key: key.clone(), value, lease, ..Default::default() }).await;
        self.note(write, answer, |r| (revision(r.into_inner().header), Changes::from([(key, Some(id))])))
    }

    async fn delete_one(&mut self) -> Result<(), Status> {
        let key = self.any_key();
        self.delete(key.clone(), Bytes::new(), vec![key]).await
    }

    async fn delete_range(&mut self) -> Result<(), Status> {
        let first = self.rng.random_range(0..KEYS / 10) * 10;
        self.delete(key(first), key(first + 10), (first..first + 10).map(key).collect()).await
    }

    async fn delete(&mut self, key: Bytes, range_end: Bytes, deletes: Vec<Bytes>) -> Result<(), Status> {
        let write = self.history().begin(vec![Branch { puts: Vec::new(), deletes }]);
        let answer = self.clients.kv.delete_range(DeleteRangeRequest { key, range_end, prev_kv: true }).await;
        self.note(write, answer, |r| {
            let response = r.into_inner();
            (revision(response.header), deleted(response))
        })
    }

    /// Two puts and a delete if a key exists, another put if not: what a replay decides must be
    /// what was decided the first time.
    async fn txn(&mut self) -> Result<(), Status> {
        let first = self.rng.random_range(0..KEYS);
        let [a, b, c] = [0, 1, 2].map(|i| key((first + i) % KEYS));
        let (yes_a, value_a) = self.fresh_value();
        let (yes_b, value_b) = self.fresh_value();
        let (no, value_no) = self.fresh_value();
        let yes = Branch { puts: vec![(a.clone(), yes_a), (b.clone(), yes_b)], deletes: vec![c.clone()] };
        let otherwise = Branch { puts: vec![(a.clone(), no)], deletes: Vec::new() };
        let delete = DeleteRangeRequest { key: c, prev_kv: true, ..Default::default() };
        let request = TxnRequest {
            compare: vec![Compare {
                result: CompareResult::Greater.into(),
                target: CompareTarget::Version.into(),
                key: self.any_key(),
                range_end: Bytes::new(),
                target_union: Some(TargetUnion::Version(0)),
            }],
            success: vec![put_op(&a, value_a), put_op(&b, value_b), RequestOp { request: Some(Op::RequestDeleteRange(delete)) }],
            failure: vec![put_op(&a, value_no)],
        };
        let write = self.history().begin(vec![yes.clone(), otherwise.clone()]);
        let answer = self.clients.kv.txn(request).await;
        self.note(write, answer, |r| {
            let response = r.into_inner();
            let puts = if response.succeeded { yes.puts } else { otherwise.puts };
            let mut changes: Changes = puts.into_iter().map(|(key, id)| (key, Some(id))).collect();
            for answer in response.responses {
                if let Some(Answer::ResponseDeleteRange(response)) = answer.response {
                    changes.extend(deleted(response));
                }
            }
            (revision(response.header), changes)
        })
    }

    async fn grant(&mut self) -> Result<(), Status> {
        let lease = self.history().fresh_id().cast_signed();
        self.history().leases.insert(lease, Lease::MaybeGranted);
        self.clients.lease.lease_grant(LeaseGrantRequest { id: lease, ttl: TTL }).await?;
        self.history().leases.insert(lease, Lease::Granted);
        let mut keys = Vec::new();
        for i in 0..self.rng.random_range(0..3) {
            let key = Bytes::from(format!("{}{i}", lease_prefix(lease)));
            self.put_into(key.clone(), lease).await?;
            keys.push(key);
        }
        self.history().revocable.insert(lease, keys);
        Ok(())
    }

    async fn revoke(&mut self) -> Result<(), Status> {
        // Taken out, so that nobody else revokes it too.
        let Some((lease, keys)) = self.history().revocable.pop_first() else { return Ok(()) };
        let write = {
            let mut history = self.history();
            history.leases.insert(lease, Lease::MaybeRevoked);
            history.begin(vec![Branch { puts: Vec::new(), deletes: keys.clone() }])
        };
        let answer = self.clients.lease.lease_revoke(LeaseRevokeRequest { id: lease }).await;
        self.note(write, answer, |r| (revision(r.into_inner().header), keys.into_iter().map(|key| (key, None)).collect()))?;
        self.history().leases.insert(lease, Lease::Revoked);
        Ok(())
    }

    async fn compact(&mut self) -> Result<(), Status> {
        let behind = self.rng.random_range(0..60);
        let at = {
            let mut history = self.history();
            let at = history.compaction_limit - behind;
            if at <= history.compaction_asked {
                return Ok(());
            }
            history.compaction_asked = at;
            at
        };
        let physical = self.rng.random_bool(0.3);
        let response = self.clients.kv.compact(CompactionRequest { revision: at, physical }).await?.into_inner();
        let mut history = self.history();
        history.told(revision(response.header));
        history.compacted = history.compacted.max(at);
        history.mix.compactions += 1;
        Ok(())
    }

    /// Files are rewritten under everything else.
    async fn defragment(&mut self) -> Result<(), Status> {
        self.clients.maintenance.defragment(DefragmentRequest {}).await?;
        Ok(())
    }

    async fn hash(&mut self) -> Result<(), Status> {
        let hash = self.clients.maintenance.hash_kv(HashKvRequest { revision: 0 }).await?.into_inner();
        let mut history = self.history();
        history.told(hash.hash_revision);
        if let Err(broken) = history.hashes.note(hash.compact_revision, hash.hash_revision, hash.hash) {
            history.broken.push(broken);
        }
        Ok(())
    }
}
