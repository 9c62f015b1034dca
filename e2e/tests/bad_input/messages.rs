//! Bytes that are no message, or one that nests without end. Both servers must agree on what a
//! message is: what one of them reads and the other refuses would be lost or changed on the way.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, RangeRequest, RequestOp, TxnRequest,
};
use keelson_e2e::program::Program;
use keelson_e2e::raw::call::{Answer, Call, Connection};
use keelson_e2e::raw::framed_as;
use prost::Message;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::common::{start, start_as, unharmed};

const INVALID_ARGUMENT: i32 = 3;
const INTERNAL: i32 = 13;
const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
const UNREADABLE: &str = "grpc: error unmarshalling request: ";
/// A known field with the wrong kind of content is refused here; etcd takes it for an unknown field.
const WRONG_TYPE: &str = "invalid wire type";
const AT_ONCE: usize = 32;
const DAMAGED_MESSAGES: usize = 2000;

/// Protobuf by hand: what no encoder writes, and whether it must be read.
fn encodings() -> Vec<(&'static str, Vec<u8>, bool)> {
    // Field 1 is the key.
    let key = b"\x0a\x03key".to_vec();
    let with = |more: &[u8]| [&key, more].concat();
    vec![
        ("a key cut off", b"\x0a\x7fkey".to_vec(), false),
        ("a key of 2^63 bytes", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(), false),
        ("a number that never ends", with(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), false),
        ("a number cut off", with(&[0x18, 0xff]), false),
        ("field 0", with(&[0x02, 0]), false),
        ("wire type 6", with(&[0x1e]), false),
        ("wire type 7", with(&[0x1f]), false),
        ("a group that never ends", with(&[0xa3, 0x06]), false),
        ("the end of a group that never began", with(&[0xa4, 0x06]), false),
        ("a group ended as another", with(&[0xa3, 0x06, 0xac, 0x06]), false),
        ("an unknown group", with(&[0xa3, 0x06, 0xa4, 0x06]), true),
        ("an unknown number", with(&[0xa0, 0x06, 1]), true),
        ("an unknown text", with(&[0xa2, 0x06, 2, b'h', b'i']), true),
        ("an unknown text cut off", with(&[0xa2, 0x06, 5, b'h', b'i']), false),
        ("the key twice", with(b"\x0a\x03two"), true),
        ("a number that is longer than needed", with(&[0x18, 0x80, 0x80, 0x00]), true),
        ("an order that is unknown", with(&[0x28, 0x63]), true),
        ("nothing at all", Vec::new(), true),
    ]
}

#[tokio::test]
async fn what_is_no_protobuf_is_refused_and_what_is_odd_is_read() -> Result<()> {
    let mut server = start(&[]).await?;
    let etcd = start_as(Program::Etcd, &[]).await?;
    let (ours, theirs) = (Connection::open(&server).await?, Connection::open(&etcd).await?);
    let mut wrong = Vec::new();
    for (what, bytes, readable) in encodings() {
        let call = Call::range().body(framed_as(0, None, &bytes));
        for (whose, connection) in [("the server", &ours), ("etcd", &theirs)] {
            let answer = connection.call(&call).await?;
            let (code, text) = answer.status();
            let refused = code == INTERNAL && text.starts_with(UNREADABLE);
            if (code < 0) || refused == readable {
                wrong.push(format!("{whose}, {what}: {answer:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    unharmed(&mut server).await
}

/// Requests that touch much of what messages are made of. None writes a key, however it is damaged, so
/// what one server refuses and the other takes does not show in later answers.
fn sound_requests() -> Vec<(&'static str, Vec<u8>)> {
    let range = RangeRequest { key: "a".into(), range_end: "b".into(), limit: 5, sort_order: 1, ..Default::default() };
    let compare = Compare { key: "missing".into(), result: 0, target: 3, ..Default::default() };
    let delete = DeleteRangeRequest { key: "missing".into(), prev_kv: true, ..Default::default() };
    let op = |request| RequestOp { request: Some(request) };
    let inner = TxnRequest { success: vec![op(Request::RequestRange(range.clone()))], ..Default::default() };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestTxn(inner)), op(Request::RequestRange(range.clone()))],
        failure: vec![op(Request::RequestDeleteRange(delete.clone())), op(Request::RequestRange(range.clone()))],
    };
    vec![
        ("/etcdserverpb.KV/Range", range.encode_to_vec()),
        ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec()),
        ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
        ("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest { id: 1 << 40 }.encode_to_vec()),
        ("/etcdserverpb.Lease/LeaseTimeToLive", LeaseTimeToLiveRequest { id: 5, keys: true }.encode_to_vec()),
    ]
}

fn damage(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..=3) {
        let at = random.random_range(0..bytes.len().max(1)).min(bytes.len());
        match random.random_range(0..4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes.insert(at, random.random()),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.truncate(bytes.len() - bytes.len() / 8),
        }
    }
}

/// What of an answer must be the same: code and text, but for how a decoder words its complaint.
fn comparable(answer: &Answer) -> (i32, &str) {
    match answer.status() {
        (INTERNAL, text) if text.starts_with(UNREADABLE) => (INTERNAL, UNREADABLE),
        status => status,
    }
}

#[tokio::test]
async fn damaged_messages_are_read_or_refused_as_etcd_does() -> Result<()> {
    let mut server = start(&[]).await?;
    let etcd = start_as(Program::Etcd, &[]).await?;
    let (ours, theirs) = (Connection::open(&server).await?, Connection::open(&etcd).await?);
    let mut random = StdRng::seed_from_u64(20);
    let requests = sound_requests();
    let damaged: Vec<Call> = (0..DAMAGED_MESSAGES)
        .map(|_| {
            let (path, sound) = requests.choose(&mut random).expect("there are some");
            let mut bytes = sound.clone();
            damage(&mut bytes, &mut random);
            Call::range().path(path).body(framed_as(0, None, &bytes))
        })
        .collect();
    let both = async |call| tokio::try_join!(ours.call(call), theirs.call(call));
    let answers: Vec<(Answer, Answer)> = stream::iter(&damaged).map(both).buffered(AT_ONCE).try_collect().await?;
    let (mut refused, mut wrong) = (0, Vec::new());
    for (call, (ours, theirs)) in damaged.iter().zip(&answers) {
        refused += usize::from(theirs.status().0 == INTERNAL);
        if !ours.status().1.contains(WRONG_TYPE) && comparable(ours) != comparable(theirs) {
            wrong.push(format!("{call:?}: {ours:?}, etcd: {theirs:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of {DAMAGED_MESSAGES} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    ensure!((DAMAGED_MESSAGES / 10..DAMAGED_MESSAGES).contains(&refused), "the damage is of no use: {refused} were refused");
    unharmed(&mut server).await
}

/// A transaction in a transaction, `levels` times. Written backwards, from the innermost out, because
/// no encoder has a stack for it.
fn nested(levels: usize) -> Bytes {
    let mut reversed = Vec::new();
    for _ in 0..levels {
        // Field 4 of an operation is a transaction, field 2 of a transaction its operations if all holds.
        for tag in [0x22, 0x12] {
            let mut head = vec![tag];
            prost::encoding::encode_varint(reversed.len() as u64, &mut head);
            reversed.extend(head.into_iter().rev());
        }
    }
    reversed.reverse();
    framed_as(0, None, &reversed)
}

async fn nesting(program: Program) -> Result<()> {
    let mut server = start_as(program, &[]).await?;
    let connection = Connection::open(&server).await?;
    let nested = async |levels| connection.call(&Call::range().path("/etcdserverpb.KV/Txn").body(nested(levels))).await;
    ensure!(nested(40).await?.status() == (0, ""), "40 levels");
    // Each level takes one from the limit of operations.
    for levels in [200, 4000] {
        let answer = nested(levels).await?;
        ensure!(answer.status() == (INVALID_ARGUMENT, TOO_MANY_OPS), "{levels} levels: {answer:?}");
    }
    // No decoder can follow this far down.
    let answer = nested(200_000).await?;
    ensure!(comparable(&answer) == (INTERNAL, UNREADABLE), "200,000 levels: {answer:?}");
    unharmed(&mut server).await
}

#[tokio::test]
async fn transactions_nested_without_end_are_refused_as_etcd_does() -> Result<()> {
    nesting(Program::Etcd).await.context("etcd")?;
    nesting(Program::under_test()?).await
}
