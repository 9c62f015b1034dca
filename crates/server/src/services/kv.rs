//! The KV service, but for the streamed range.

use std::sync::Arc;
use std::time::Instant;

use keelson_api::Error;
use keelson_api::etcdserverpb::response_op::Response;
use keelson_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, TxnRequest, TxnResponse,
};
use keelson_api::keelson::command::Action;
use keelson_state::{self as state, Reply};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use super::large_range::{self, LargeRange};
use super::{Method, mismatched, stats};
use crate::grpc::{Answer, Call, Pieces, Status};
use crate::member::Member;
use crate::metrics::Request;

async fn admit(member: &Member, request: &RangeRequest) -> Result<(), Status> {
    state::check_range(request)?;
    if !request.serializable {
        member.read_barrier().await?;
    }
    member.metrics.ranges.inc();
    Ok(())
}

/// Answers a range, in pieces if it is large.
pub async fn range_of_any_size(
    member: Arc<Member>,
    call: &Call,
    request: RangeRequest,
) -> Result<Answer<RangeResponse, LargeRange>, Status> {
    let begun = Instant::now();
    let answer = proved_range(&member, call, request).await;
    member.metrics.requests.observe(Request::Range, answer.is_ok(), begun.elapsed());
    if let (Ok(answer), Some(account)) = (&answer, &call.account) {
        account.counted(match answer {
            Answer::Whole(response) => response.count,
            Answer::Pieces(large) => i64::try_from(large.count()).unwrap_or(i64::MAX),
        });
    }
    stats::tell_of_read(&member, Method::Range, call, begun, answer.as_ref().map(|answer| move || sizes(answer)));
    answer
}

/// What the log tells of an answer to a range.
fn sizes(answer: &Answer<RangeResponse, LargeRange>) -> String {
    let (keys, bytes) = match answer {
        Answer::Whole(response) => (response.kvs.len(), response.encoded_len()),
        Answer::Pieces(large) => (large.keys(), large.encoded_len()),
    };
    format!("range_response_count:{keys} size:{bytes}")
}

async fn proved_range(
    member: &Arc<Member>,
    call: &Call,
    request: RangeRequest,
) -> Result<Answer<RangeResponse, LargeRange>, Status> {
    if !request.serializable && member.is_learner() {
        return Err(Error::NotSupportedForLearner.into());
    }
    admit(member, &request).await?;
    // After the proof: what was taken from the caller before it asked has been applied here by now.
    let asker = member.reader(call, &request).await?;
    let begun = Instant::now();
    let answer = match state::plain_query(&request).filter(|q| member.state.store.is_large(q)) {
        Some(query) => large_range::begin(member, query).await.map(Answer::Pieces),
        None => read_range(member.clone(), request).await.map(Answer::Whole),
    };
    member.metrics.range_reads.observe(answer.is_ok(), begun.elapsed());
    member.still_holds(asker.as_ref())?;
    answer
}

/// Answers a small range, to health checks alone: those are no users, and those of learners ask what clients may not.
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

pub async fn put(member: Arc<Member>, call: &Call, request: PutRequest) -> Result<PutResponse, Status> {
    member.check_quota(state::quota_cost_put(&request)).await?;
    state::check_put(&request)?;
    let asker = member.asker(call).await?;
    match member.propose_for(asker, Action::Put(request)).await? {
        Reply::Put(mut response) => {
            response.header = member.complete(response.header);
            Ok(response)
        }
        _ => Err(mismatched()),
    }
}

pub async fn delete_range(member: Arc<Member>, call: &Call, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
    state::check_delete(&request)?;
    let asker = member.asker(call).await?;
    match member.propose_for(asker, Action::DeleteRange(request)).await? {
        Reply::DeleteRange(mut response) => {
            if let Some(account) = &call.account {
                account.counted(response.deleted);
            }
            response.header = member.complete(response.header);
            Ok(response)
        }
        _ => Err(mismatched()),
    }
}

pub async fn txn(member: Arc<Member>, call: &Call, request: TxnRequest) -> Result<TxnResponse, Status> {
    member.check_quota(state::quota_cost_txn(&request)).await?;
    state::check_txn(&request, member.config.max_txn_ops)?;
    let mut response = if state::is_read_only(&request) {
        let begun = Instant::now();
        let read = read_only_txn(&member, call, request).await;
        member.metrics.requests.observe(Request::ReadonlyTxn, read.is_ok(), begun.elapsed());
        read?
    } else {
        let asker = member.asker(call).await?;
        match member.propose_for(asker, Action::Txn(request)).await? {
            Reply::Txn(response) => response,
            _ => return Err(mismatched()),
        }
    };
    if let Some(account) = &call.account {
        account.decided(response.succeeded);
    }
    response.header = member.complete(response.header);
    Ok(response)
}

async fn read_only_txn(member: &Arc<Member>, call: &Call, request: TxnRequest) -> Result<TxnResponse, Status> {
    if !state::is_serializable(&request) {
        member.read_barrier().await?;
    }
    let begun = Instant::now();
    let answer = proved_txn(member, call, request).await;
    stats::tell_of_read(member, Method::Txn, call, begun, answer.as_ref().map(|answer| move || sizes_of_txn(answer)));
    answer
}

/// What the log tells of an answer to a transaction that only reads.
fn sizes_of_txn(answer: &TxnResponse) -> String {
    let keys = answer.responses.iter().filter_map(|op| match &op.response {
        Some(Response::ResponseRange(range)) => Some(format!("range_response_count:{}", range.kvs.len())),
        _ => None,
    });
    format!("responses:<{}> size:{}", keys.collect::<Vec<_>>().join(" "), answer.encoded_len())
}

async fn proved_txn(member: &Arc<Member>, call: &Call, request: TxnRequest) -> Result<TxnResponse, Status> {
    let asker = member.asker(call).await?;
    if let Some(asker) = &asker {
        member.state.check_txn(asker.caller(), &request)?;
    }
    let read = move |state: &crate::member::State, mode| state::read_only_txn(&state.store, &request, mode);
    let response = member.read(read).await?;
    member.still_holds(asker.as_ref())?;
    Ok(response?)
}

/// Levels of transactions that etcd's decoder follows, which is more than can be allowed.
const DEEPEST: usize = 5000;

/// Our decoder gives up long before etcd's does, and what etcd's has read is refused for what it is: too
/// many operations, one for each level.
pub fn nested_too_deep(message: &[u8], e: &DecodeError) -> Option<Status> {
    let gave_up = e.to_string().contains("recursion limit reached");
    (gave_up && levels(message) < DEEPEST).then(|| Error::TooManyOps.into())
}

/// How deep the first transaction in each is nested.
fn levels(mut rest: &[u8]) -> usize {
    const SUCCESS: u32 = 2;
    const FAILURE: u32 = 3;
    const OP_TXN: u32 = 4;
    let (mut levels, mut in_op) = (0, false);
    while let Ok((tag, wire)) = decode_key(&mut rest) {
        let is_deeper = if in_op { tag == OP_TXN } else { matches!(tag, SUCCESS | FAILURE) };
        if is_deeper && wire == WireType::LengthDelimited {
            let Some(inner) = decode_varint(&mut rest).ok().and_then(|n| rest.get(..usize::try_from(n).ok()?)) else { break };
            rest = inner;
            levels += usize::from(in_op);
            in_op = !in_op;
        } else if skip_field(wire, tag, &mut rest, DecodeContext::default()).is_err() {
            break;
        }
    }
    levels
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
