//! Standing in line: keys under one prefix, one for each lease, of which the oldest is first. Locks
//! and elections are such lines. As in etcd they are made of nothing but the calls that any client could
//! make, so that clients which make those themselves stand in the same lines.

use std::sync::Arc;

use bytes::Bytes;
use keelson_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::response_op::Response;
use keelson_api::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseOp,
    TxnRequest, TxnResponse,
};
use keelson_api::mvccpb::KeyValue;
use keelson_api::{Code, Error};
use keelson_mvcc::{EventKind, KeyRange, prefix_end};
use tokio::runtime::Handle;

use super::follow::Follower;
use super::{kv, lease};
use crate::grpc::{Answer, Call, Status};
use crate::member::Member;

/// Seconds that a lease lives which is granted because the caller has none. Nobody renews it here.
const LEASE_SECONDS: i64 = 60;

/// Who stands in line, and makes the calls of which all this is made.
#[derive(Clone)]
pub struct Caller {
    /// The member that serves the call.
    pub member: Arc<Member>,
    /// The call that is served.
    pub call: Call,
}

/// What an error of an inner call becomes: as in etcd, its text is passed on and its code is not.
fn passed_on(status: Status) -> Status {
    Status::new(Code::Unknown, status.message)
}

impl Caller {
    /// Who makes that call.
    pub fn of(member: Arc<Member>, call: &Call) -> Self {
        Self { member, call: call.clone() }
    }

    /// The lease that the caller brings, or a new one.
    pub async fn lease(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        // As for any client that asks for one.
        self.member.somebody(&self.call).await.map_err(|e| passed_on(e.into()))?;
        let request = LeaseGrantRequest { ttl: LEASE_SECONDS, id: 0 };
        Ok(lease::grant(self.member.clone(), request).await.map_err(passed_on)?.id)
    }

    /// Runs a transaction.
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        kv::txn(self.member.clone(), &self.call, request).await.map_err(passed_on)
    }

    /// Deletes keys.
    pub async fn delete(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
        kv::delete_range(self.member.clone(), &self.call, request).await.map_err(passed_on)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        match kv::range_of_any_size(self.member.clone(), &self.call, request).await.map_err(passed_on)? {
            Answer::Whole(response) => Ok(response),
            Answer::Pieces(_) => Err(Status::new(Code::Internal, "keelson: one key was asked for and many came; this is a bug")),
        }
    }

    /// Waits for as long as the caller may: not when the leader is lost that it wants, nor when the process stops.
    pub async fn wait<T>(&self, wait: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        tokio::select! {
            waited = wait => waited,
            () = self.member.leader_lost(&self.call) => Err(Error::NoLeader.into()),
            () = self.member.stopped() => Err(Error::Stopped.into()),
        }
    }
}

/// A line.
pub struct Line {
    caller: Caller,
    prefix: Bytes,
}

impl Line {
    /// The line of that name.
    pub fn of(caller: &Caller, name: &[u8]) -> Self {
        Self { caller: caller.clone(), prefix: [name, b"/"].concat().into() }
    }

    /// The key of who stands in line with a lease.
    pub fn key_of(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        [&self.prefix[..], format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
    }

    /// All keys of the line.
    pub fn keys(&self) -> KeyRange {
        KeyRange::from_api(&self.prefix, &prefix_end(&self.prefix))
    }

    fn oldest_or_newest(&self, sort_order: SortOrder) -> RangeRequest {
        RangeRequest {
            key: self.prefix.clone(),
            range_end: prefix_end(&self.prefix).into(),
            sort_target: SortTarget::Create.into(),
            sort_order: sort_order.into(),
            limit: 1,
            ..RangeRequest::default()
        }
    }

    /// Asks for who is first.
    pub fn first(&self) -> RangeRequest {
        self.oldest_or_newest(SortOrder::Ascend)
    }

    /// Reads who is first.
    pub async fn read_first(&self) -> Result<RangeResponse, Status> {
        self.caller.range(self.first()).await
    }

    /// Reads one key.
    pub async fn read(&self, key: &Bytes) -> Result<RangeResponse, Status> {
        self.caller.range(RangeRequest { key: key.clone(), ..RangeRequest::default() }).await
    }

    /// Waits until everybody is gone who came before `revision`. One at a time is looked at, the last of
    /// them, so that an end wakes one waiter and not all.
    pub async fn wait_for_turn(&self, revision: i64) -> Result<(), Status> {
        loop {
            let ahead = RangeRequest { max_create_revision: revision - 1, ..self.oldest_or_newest(SortOrder::Descend) };
            let found = self.caller.range(ahead).await?;
            let Some(last) = found.kvs.into_iter().next() else { return Ok(()) };
            let seen_at = found.header.map_or(last.mod_revision, |h| h.revision);
            let mut follower = Follower::new(&self.caller.member, KeyRange::One(last.key.to_vec()), seen_at + 1);
            loop {
                match follower.next().await {
                    Ok(events) if events.iter().any(|e| e.kind == EventKind::Delete) => break,
                    Ok(_) => {}
                    // What happened is forgotten; what is there can still be read.
                    Err(Error::Compacted) => break,
                    Err(e) => return Err(passed_on(e.into())),
                }
            }
        }
    }
}

/// A place in a line, given up unless it is kept: nobody should wait for who does not wait any longer.
pub struct Place {
    caller: Caller,
    leave: Option<TxnRequest>,
}

impl Place {
    /// A place that is left by that transaction.
    pub fn new(caller: &Caller, leave: TxnRequest) -> Self {
        Self { caller: caller.clone(), leave: Some(leave) }
    }

    /// Keeps the place.
    pub fn keep(mut self) {
        self.leave = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let (Some(leave), Ok(runtime)) = (self.leave.take(), Handle::try_current()) {
            let caller = self.caller.clone();
            // Nobody is left to be told of a failure; the end of the lease makes up for it.
            runtime.spawn(async move { drop(caller.txn(leave).await) });
        }
    }
}

/// Puts a value that lives as long as a lease.
pub fn put(key: &Bytes, value: Bytes, lease: i64) -> RequestOp {
    let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

/// Reads a range.
pub fn read(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(range)) }
}

/// Reads one key.
pub fn read_one(key: &Bytes) -> RequestOp {
    read(RangeRequest { key: key.clone(), ..RangeRequest::default() })
}

/// Deletes a key.
pub fn delete(key: &Bytes) -> RequestOp {
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

/// The first key that an operation has found.
pub fn found(op: Option<ResponseOp>) -> Option<KeyValue> {
    match op?.response {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    }
}
