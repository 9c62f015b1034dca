//! The limits on requests that are well formed: what is within them works, what is beyond is refused
//! with etcd's code and text, whether the limits are the usual ones or set by flags.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::compare::CompareTarget;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::common::{start_as, unharmed};

const MAX_REQUEST: usize = 1_572_864;
/// Bytes around a request that servers may count differently: names of fields, lengths, an envelope.
const SLACK: usize = 4096;
const MAX_OPS: usize = 128;

const TOO_LARGE: (Code, &str) = (Code::InvalidArgument, "etcdserver: request is too large");
const TOO_MANY_OPS: (Code, &str) = (Code::InvalidArgument, "etcdserver: too many operations in txn request");

fn put(key: impl Into<bytes::Bytes>, size: usize) -> PutRequest {
    PutRequest { key: key.into(), value: vec![b'v'; size].into(), ..Default::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn puts(count: usize, size: usize) -> Vec<RequestOp> {
    (0..count).map(|i| op(Request::RequestPut(put(format!("op/{i}"), size)))).collect()
}

fn success(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..Default::default() }
}

fn compares(count: usize) -> TxnRequest {
    let target = CompareTarget::Version.into();
    TxnRequest { compare: vec![Compare { key: "key".into(), target, ..Default::default() }; count], ..Default::default() }
}

fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T, Status>, expected: (Code, &str)) -> Result<()> {
    let status = answer.err().with_context(|| format!("{what}: not refused"))?;
    let is = (status.code(), status.message());
    ensure!(is == expected, "{what}: {is:?}, not {expected:?}");
    Ok(())
}

async fn client(server: &Server) -> Result<KvClient<Channel>> {
    Ok(KvClient::connect(server.client_url()).await?.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
}

async fn sizes(program: Program) -> Result<()> {
    let mut server = start_as(program, &[]).await?;
    let mut kv = client(&server).await?;
    kv.put(put("within", MAX_REQUEST - SLACK)).await.context("a put within the limit")?;
    refused("a put", kv.put(put("over", MAX_REQUEST + SLACK)).await, TOO_LARGE)?;
    refused("a key", kv.put(put(vec![b'k'; MAX_REQUEST + SLACK], 1)).await, TOO_LARGE)?;
    let delete = DeleteRangeRequest { key: vec![b'k'; MAX_REQUEST + SLACK].into(), ..Default::default() };
    refused("a delete", kv.delete_range(delete).await, TOO_LARGE)?;
    refused("a transaction", kv.txn(success(puts(100, MAX_REQUEST / 100 + 100))).await, TOO_LARGE)?;
    // Reads are not proposed, so only the limit of messages counts.
    let range = |size| RangeRequest { key: vec![b'k'; size].into(), ..Default::default() };
    kv.range(range(MAX_REQUEST + SLACK)).await.context("a read with a long key")?;
    let longest = MAX_REQUEST + (512 << 10);
    let message = format!("grpc: received message larger than max ({} vs. {longest})", longest + 6);
    refused("a read", kv.range(range(longest + 1)).await, (Code::ResourceExhausted, &message))?;
    refused(
        "a message",
        kv.put(put("over", 10 << 20)).await.map_err(without_number),
        (Code::ResourceExhausted, "grpc: received message larger than max"),
    )?;
    let found = kv.range(RangeRequest { key: "over".into(), ..Default::default() }).await?.into_inner();
    ensure!(found.count == 0, "something that was refused was written");
    unharmed(&mut server).await
}

/// The text of the refusal up to its numbers, which are the encoding's.
fn without_number(status: Status) -> Status {
    Status::new(status.code(), status.message().split(" (").next().unwrap_or_default())
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_as_etcd_does_and_one_within_it_is_not() -> Result<()> {
    sizes(Program::Etcd).await.context("etcd")?;
    sizes(Program::under_test()?).await
}

async fn sizes_by_flag(program: Program) -> Result<()> {
    let mut server = start_as(program, &["--max-request-bytes=10000", "--max-txn-ops=4"]).await?;
    let mut kv = client(&server).await?;
    kv.put(put("within", 9_000)).await.context("within the limit")?;
    refused("a put", kv.put(put("over", 11_000)).await, TOO_LARGE)?;
    let message = (Code::ResourceExhausted, "grpc: received message larger than max (600010 vs. 534288)");
    refused("a message", kv.put(put("over", 600_000)).await, message)?;
    kv.txn(success(puts(4, 1))).await.context("four operations")?;
    refused("five operations", kv.txn(success(puts(5, 1))).await, TOO_MANY_OPS)?;
    unharmed(&mut server).await
}

#[tokio::test]
async fn limits_that_are_set_by_flags_hold_as_in_etcd() -> Result<()> {
    sizes_by_flag(Program::Etcd).await.context("etcd")?;
    sizes_by_flag(Program::under_test()?).await
}

async fn operations(program: Program) -> Result<()> {
    let mut server = start_as(program, &[]).await?;
    let mut kv = client(&server).await?;
    kv.txn(success(puts(MAX_OPS, 1))).await.context("as many operations as allowed")?;
    kv.txn(compares(MAX_OPS)).await.context("as many compares as allowed")?;
    refused("operations", kv.txn(success(puts(MAX_OPS + 1, 1))).await, TOO_MANY_OPS)?;
    let failure = TxnRequest { failure: puts(MAX_OPS + 1, 1), ..Default::default() };
    refused("operations that would not run", kv.txn(failure).await, TOO_MANY_OPS)?;
    refused("compares", kv.txn(compares(MAX_OPS + 1)).await, TOO_MANY_OPS)?;
    refused("a hundred thousand", kv.txn(compares(100_000)).await, TOO_MANY_OPS)?;
    // What is nested has what its parents left.
    let with_nested = |inner| {
        let mut ops = puts(MAX_OPS - 3, 1);
        ops.push(op(Request::RequestTxn(compares(inner))));
        success(ops)
    };
    kv.txn(with_nested(2)).await.context("two more nested")?;
    refused("three more nested", kv.txn(with_nested(3)).await, TOO_MANY_OPS)?;
    unharmed(&mut server).await
}

#[tokio::test]
async fn a_transaction_of_too_many_operations_is_refused_as_etcd_does() -> Result<()> {
    operations(Program::Etcd).await.context("etcd")?;
    operations(Program::under_test()?).await
}

#[tokio::test]
async fn an_answer_may_be_much_larger_than_a_request() -> Result<()> {
    const KEYS: usize = 40;
    let mut server = start_as(Program::under_test()?, &[]).await?;
    let mut kv = client(&server).await?;
    for i in 0..KEYS {
        kv.put(put(format!("large/{i:02}"), 1 << 20)).await?;
    }
    let all = RangeRequest { key: "large/".into(), range_end: "large0".into(), ..Default::default() };
    let answer = kv.range(all).await?.into_inner();
    ensure!(answer.kvs.len() == KEYS && answer.kvs.iter().all(|kv| kv.value.len() == 1 << 20));
    unharmed(&mut server).await
}
