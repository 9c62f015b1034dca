//! What a right on some keys gives, and what it does not, on etcd and here alike.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::request_op::Request as Op;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};
use keelson_e2e::server::Server;

use super::common::{Caller, FLAGS, ask_for_users, both, said};

const DENIED: &str = "PermissionDenied: etcdserver: permission denied";
/// The same, as a watch is told.
const NOT_WATCHED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

fn op(op: Op) -> RequestOp {
    RequestOp { request: Some(op) }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..Default::default() }
}

/// The operation inside of so many transactions, in the branch that is not taken.
fn nested(depth: usize, inner: Op) -> TxnRequest {
    (0..depth).fold(TxnRequest { failure: vec![op(inner)], ..Default::default() }, |inner, _| TxnRequest {
        failure: vec![op(Op::RequestTxn(inner))],
        ..Default::default()
    })
}

/// Keys that ann may read, and ranges of which she may read a part only.
#[tokio::test]
async fn a_range_is_read_and_watched_by_who_may_read_all_of_it() -> Result<()> {
    const CASES: &[(&str, &str, bool)] = &[
        ("a", "", true),
        ("r", "", true),
        ("c", "", false),
        ("rr", "", false),
        ("a", "c", true),
        ("b", "bb", true),
        ("a", "c\0", false),
        ("A", "b", false),
        ("r", "s", false),
        ("r", "r\0", true),
        ("r", "\0", false),
        ("a", "\0", false),
        ("\0", "\0", false),
        ("b", "a", true),
        ("c", "a", false),
    ];
    for program in both()? {
        let server = Server::start(program, FLAGS).await?;
        let root = ask_for_users(&server).await?;
        root.put("r").await?;
        let ann = Caller::named(&server, "ann").await?;
        for (key, end, allowed) in CASES {
            let read = said(ann.kv().range(ann.ask(range(key, end))).await);
            ensure!((read == "accepted") == *allowed, "{} {key:?} {end:?}: {read}", program.name());
            ensure!(*allowed || read == DENIED, "{read}");
            // Etcd refuses to watch a range that can hold no key for that alone.
            if *end != "a" {
                let told = first_answer(&ann, key, end).await?;
                ensure!(told == if *allowed { "" } else { NOT_WATCHED }, "{} watches {key:?} {end:?}: {told:?}", program.name());
            }
        }
    }
    Ok(())
}

/// Why a watch is not let in; empty if it is.
async fn first_answer(caller: &Caller, key: &'static str, range_end: &'static str) -> Result<String> {
    let create = WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut answers = caller.watch().watch(caller.ask(requests)).await?.into_inner();
    let answer = answers.message().await?.context("the answer to the request")?;
    ensure!(answer.created && answer.canceled != answer.cancel_reason.is_empty(), "{answer:?}");
    ensure!(answer.watch_id == if answer.canceled { -1 } else { 0 }, "{answer:?}");
    Ok(answer.cancel_reason)
}

#[tokio::test]
async fn nothing_gets_through_inside_a_transaction() -> Result<()> {
    let lock = |key: &'static str| Compare { key: key.into(), ..Default::default() };
    let delete = |prev_kv| DeleteRangeRequest { key: "r".into(), prev_kv, ..Default::default() };
    let cases = [
        (nested(0, Op::RequestPut(put("a"))), true),
        (nested(3, Op::RequestPut(put("a"))), true),
        (nested(0, Op::RequestPut(put("r"))), false),
        (nested(1, Op::RequestPut(put("r"))), false),
        (nested(3, Op::RequestPut(put("z"))), false),
        (nested(0, Op::RequestRange(range("r", ""))), true),
        (nested(2, Op::RequestRange(range("r", ""))), true),
        (nested(0, Op::RequestRange(range("z", ""))), false),
        (nested(2, Op::RequestRange(range("a", "\0"))), false),
        (nested(1, Op::RequestDeleteRange(delete(false))), false),
        (nested(1, Op::RequestDeleteRange(delete(true))), false),
        (TxnRequest { compare: vec![lock("a"), lock("r")], ..Default::default() }, true),
        (TxnRequest { compare: vec![lock("a"), lock("z")], ..Default::default() }, false),
        (TxnRequest { compare: vec![lock("z")], ..nested(1, Op::RequestPut(put("a"))) }, false),
    ];
    for program in both()? {
        let server = Server::start(program, FLAGS).await?;
        ask_for_users(&server).await?;
        let (nobody, ann) = (Caller::nobody(&server).await?, Caller::named(&server, "ann").await?);
        for (txn, allowed) in &cases {
            let told = said(ann.kv().txn(ann.ask(txn.clone())).await);
            ensure!(told == if *allowed { "accepted" } else { DENIED }, "{} {txn:?}: {told}", program.name());
            let told = said(nobody.kv().txn(nobody.ask(txn.clone())).await);
            ensure!(told == "InvalidArgument: etcdserver: user name is empty", "{} {txn:?}: {told}", program.name());
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_was_there_before_and_the_keys_of_a_lease_are_kept_from_who_may_not_read_them() -> Result<()> {
    for program in both()? {
        let server = Server::start(program, FLAGS).await?;
        let root = ask_for_users(&server).await?;
        let ann = Caller::named(&server, "ann").await?;
        root.add_role("writer").await?;
        root.permit("writer", keelson_api::authpb::permission::Type::Write, "w", "x").await?;
        root.grant("ann", "writer").await?;
        for prev_kv in [false, true] {
            let written = said(ann.kv().put(ann.ask(PutRequest { prev_kv, ..put("w") })).await);
            let request = DeleteRangeRequest { key: "w".into(), prev_kv, ..Default::default() };
            let deleted = said(ann.kv().delete_range(ann.ask(request)).await);
            let expected = if prev_kv { DENIED } else { "accepted" };
            ensure!(written == expected && deleted == expected, "{}: {written}, {deleted}", program.name());
        }
        // A lease with a key that ann may write and not read.
        let grant = LeaseGrantRequest { id: 7, ttl: 3600 };
        ann.lease().lease_grant(ann.ask(grant)).await?;
        ann.kv().put(ann.ask(PutRequest { lease: 7, ..put("w") })).await?;
        let keys = |keys| LeaseTimeToLiveRequest { id: 7, keys };
        ensure!(said(ann.lease().lease_time_to_live(ann.ask(keys(false))).await) == "accepted");
        ensure!(said(ann.lease().lease_time_to_live(ann.ask(keys(true))).await) == DENIED);
        ensure!(said(ann.lease().lease_leases(ann.ask(LeaseLeasesRequest {})).await) == DENIED);
        let told = root.lease().lease_time_to_live(root.ask(keys(true))).await?.into_inner();
        ensure!(told.keys == ["w"], "{told:?}");
        ensure!(renewed(&ann).await == "accepted");
        // And with one that ann may not even write.
        root.kv().put(root.ask(PutRequest { lease: 7, ..put("z") })).await?;
        ensure!(renewed(&ann).await == DENIED);
        ensure!(said(ann.lease().lease_revoke(ann.ask(LeaseRevokeRequest { id: 7 })).await) == DENIED);
        ensure!(said(ann.kv().put(ann.ask(PutRequest { lease: 7, ..put("a") })).await) == DENIED);
        ensure!(said(root.lease().lease_revoke(root.ask(LeaseRevokeRequest { id: 7 })).await) == "accepted");
    }
    Ok(())
}

async fn renewed(caller: &Caller) -> String {
    let requests = tokio_stream::once(LeaseKeepAliveRequest { id: 7 });
    let answered = async {
        let mut answers = caller.lease().lease_keep_alive(caller.ask(requests)).await?.into_inner();
        answers.message().await
    };
    said(answered.await)
}

#[tokio::test]
async fn leases_end_and_history_is_compacted_by_itself_where_users_are_asked_for() -> Result<()> {
    for program in both()? {
        let flags = [FLAGS, &["--auto-compaction-mode=periodic", "--auto-compaction-retention=1s"]].concat();
        let server = Server::start(program, &flags).await?;
        let root = ask_for_users(&server).await?;
        root.lease().lease_grant(root.ask(LeaseGrantRequest { id: 7, ttl: 1 })).await?;
        root.kv().put(root.ask(PutRequest { lease: 7, ..put("z") })).await?;
        keelson_e2e::wait::until("the lease ends", super::common::LIMIT, async || Ok(root.get("z").await?.kvs.is_empty()))
            .await?;
        let old = RangeRequest { revision: 2, ..range("z", "") };
        keelson_e2e::wait::until("history is compacted", super::common::LIMIT, async || {
            root.put("z").await?;
            Ok(root.kv().range(root.ask(old.clone())).await.is_err_and(|e| e.message().contains("compacted")))
        })
        .await?;
    }
    Ok(())
}
