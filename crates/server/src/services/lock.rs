//! The Lock service: who is first in line holds the lock. The lock ends with its key, and that with its
//! lease, so a lock that was waited for is only given to somebody whose lease has outlived the wait.

use std::sync::Arc;

use bytes::Bytes;
use keelson_api::etcdserverpb::{DeleteRangeRequest, TxnRequest};
use keelson_api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use keelson_api::{Code, created_at};

use super::line::{self, Caller, Line, Place};
use crate::grpc::{Call, Status};
use crate::member::Member;

/// The lease ended while its owner stood in line.
const EXPIRED: &str = "mutex: session is expired";

pub async fn lock(member: Arc<Member>, call: &Call, request: LockRequest) -> Result<LockResponse, Status> {
    let caller = Caller::of(member, call);
    let lease = caller.lease(request.lease).await?;
    let line = Line::of(&caller, &request.name);
    let key = line.key_of(lease);
    // Who asks again has its place already.
    let enter = TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![line::put(&key, Bytes::new(), lease), line::read(line.first())],
        failure: vec![line::read_one(&key), line::read(line.first())],
    };
    let entered = caller.txn(enter).await?;
    let mut responses = entered.responses.into_iter();
    let (own, holder) = (line::found(responses.next()), line::found(responses.next()));
    let revision = own.map_or_else(|| entered.header.map_or(0, |h| h.revision), |kv| kv.create_revision);
    if holder.is_none_or(|kv| kv.create_revision == revision) {
        return Ok(LockResponse { header: entered.header, key });
    }
    let leave = TxnRequest { success: vec![line::delete(&key)], ..TxnRequest::default() };
    let place = Place::new(&caller, leave);
    let turn = async {
        line.wait_for_turn(revision).await?;
        line.read(&key).await
    };
    let held = caller.wait(turn).await?;
    place.keep();
    if held.kvs.is_empty() {
        return Err(Status::new(Code::Unknown, EXPIRED));
    }
    Ok(LockResponse { header: held.header, key })
}

pub async fn unlock(member: Arc<Member>, call: &Call, request: UnlockRequest) -> Result<UnlockResponse, Status> {
    let delete = DeleteRangeRequest { key: request.key, ..DeleteRangeRequest::default() };
    let deleted = Caller::of(member, call).delete(delete).await?;
    Ok(UnlockResponse { header: deleted.header })
}
