//! The KV service, but for the streamed range.

use std::sync::Arc;

use keelson_api::Error;
use keelson_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, TxnRequest, TxnResponse,
};
use keelson_api::keelson::command::Action;
use keelson_state::{self as state, Reply};

use super::large_range::{self, LargeRange};
use crate::grpc::{Answer, Status};
use crate::member::Member;

/// An answer of another kind than its question is a bug that must not take the process down.
fn mismatched() -> Status {
    Status::new(keelson_api::Code::Internal, "keelson: the reply does not fit the request; this is a bug")
}

async fn admit(member: &Member, request: &RangeRequest) -> Result<(), Status> {
    state::check_range(request)?;
    if !request.serializable {
        member.read_barrier().await?;
    }
    member.metrics.ranges.inc();
    Ok(())
}

/// Answers a range, in pieces if it is large.
pub async fn range_of_any_size(member: Arc<Member>, request: RangeRequest) -> Result<Answer<RangeResponse, LargeRange>, Status> {
    admit(&member, &request).await?;
    match state::plain_query(&request).filter(|q| member.state.store.is_large(q)) {
        Some(query) => large_range::begin(&member, query).await.map(Answer::Pieces),
        None => read_range(member, request).await.map(Answer::Whole),
    }
}

pub async fn range(member: Arc<Member>, request: RangeRequest) -> Result<RangeResponse, Status> {
    admit(&member, &request).await?;
    read_range(member, request).await
}

async fn read_range(member: Arc<Member>, request: RangeRequest) -> Result<RangeResponse, Status> {
    let read = move |state: &crate::member::State, mode| state::range_response(&request, |q| state.store.range(q, mode));
    let mut response = member.read(read).await?;
    response.header = member.complete(response.header);
    Ok(response)
}

pub async fn put(member: Arc<Member>, request: PutRequest) -> Result<PutResponse, Status> {
    member.check_quota(state::quota_cost_put(&request)).await?;
    state::check_put(&request)?;
    match member.propose(Action::Put(request)).await? {
        Reply::Put(mut response) => {
            response.header = member.complete(response.header);
            Ok(response)
        }
        _ => Err(mismatched()),
    }
}

pub async fn delete_range(member: Arc<Member>, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
    state::check_delete(&request)?;
    match member.propose(Action::DeleteRange(request)).await? {
        Reply::DeleteRange(mut response) => {
            response.header = member.complete(response.header);
            Ok(response)
        }
        _ => Err(mismatched()),
    }
}

pub async fn txn(member: Arc<Member>, request: TxnRequest) -> Result<TxnResponse, Status> {
    member.check_quota(state::quota_cost_txn(&request)).await?;
    state::check_txn(&request, member.config.max_txn_ops)?;
    let mut response = if state::is_read_only(&request) {
        if !state::is_serializable(&request) {
            member.read_barrier().await?;
        }
        let read = move |state: &crate::member::State, mode| state::read_only_txn(&state.store, &request, mode);
        member.read(read).await??
    } else {
        match member.propose(Action::Txn(request)).await? {
            Reply::Txn(response) => response,
            _ => return Err(mismatched()),
        }
    };
    response.header = member.complete(response.header);
    Ok(response)
}

pub async fn compact(member: Arc<Member>, request: CompactionRequest) -> Result<CompactionResponse, Status> {
    let physical = request.physical;
    let Reply::Compact(mut response) = member.propose(Action::Compact(request)).await? else { return Err(mismatched()) };
    if physical {
        tokio::select! {
            removed = member.wait_for_removal() => removed?,
            () = member.stopped() => return Err(Error::Stopped.into()),
        }
    }
    response.header = member.complete(response.header);
    Ok(response)
}
