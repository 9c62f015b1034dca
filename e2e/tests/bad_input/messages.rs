//! Bytes that are no message, or one that nests without end. Both servers must agree on what a
//! message is: what one of them reads and the other refuses would be lost or changed on the way.

use anyhow::{Result, ensure};
use bytes::Bytes;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use keelson_e2e::program::Program;
use keelson_e2e::raw::call::{Answer, Call, Connection};
use keelson_e2e::raw::framed_as;
use prost::Message;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::common::{start, start_as, unharmed};

const INVALID_ARGUMENT: i32 = 3;
const INTERNAL: i32 = 13;
const DAMAGED_MESSAGES: usize = 4000;

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
        ("a field of another type", with(&[0x1a, 1, b'x']), false),
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
            let refused = code == INTERNAL && text.starts_with("grpc: error unmarshalling request: ");
            if (code < 0) || refused == readable {
                wrong.push(format!("{whose}, {what}: {answer:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    unharmed(&mut server).await
}

/// Requests that touch much of what messages are made of, and change nothing that is read here.
fn sound_requests() -> Vec<(&'static str, Vec<u8>)> {
    let range = RangeRequest { key: "a".into(), range_end: "b".into(), limit: 5, sort_order: 1, ..Default::default() };
    let compare = Compare { key: "missing".into(), result: 0, target: 3, ..Default::default() };
    let put = PutRequest { key: "missing".into(), ignore_value: true, ..Default::default() };
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
        ("/etcdserverpb.KV/Put", put.encode_to_vec()),
        ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec()),
        ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
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

/// What of an answer must be the same: everything, but for how a decoder words its complaint.
fn comparable(answer: Answer) -> Answer {
    match answer {
        Answer::Grpc { code: INTERNAL, text, body } if text.starts_with("grpc: error unmarshalling request") => {
            Answer::Grpc { code: INTERNAL, text: "not readable".into(), body }
        }
        other => other,
    }
}

#[tokio::test]
async fn damaged_messages_are_read_or_refused_as_etcd_does() -> Result<()> {
    let mut server = start(&[]).await?;
    let etcd = start_as(Program::Etcd, &[]).await?;
    let (ours, theirs) = (Connection::open(&server).await?, Connection::open(&etcd).await?);
    let mut random = StdRng::seed_from_u64(20);
    let requests = sound_requests();
    let (mut refused, mut wrong) = (0, Vec::new());
    for _ in 0..DAMAGED_MESSAGES {
        let (path, sound) = requests.choose(&mut random).expect("there are some");
        let mut bytes = sound.clone();
        damage(&mut bytes, &mut random);
        let call = Call::range().path(path).body(framed_as(0, None, &bytes));
        let (ours, theirs) = tokio::try_join!(ours.call(&call), theirs.call(&call))?;
        refused += usize::from(theirs.status().0 == INTERNAL);
        // Answers hold the member's address in their header, so only refusals compare in full.
        let same = match (comparable(ours.clone()), comparable(theirs.clone())) {
            (Answer::Grpc { code: a, text: s, .. }, Answer::Grpc { code: b, text: t, .. }) => (a, s) == (b, t),
            (a, b) => a == b,
        };
        if !same {
            wrong.push(format!("{path} {bytes:02x?}: {ours:?}, etcd: {theirs:?}"));
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

#[tokio::test]
async fn transactions_nested_without_end_are_refused() -> Result<()> {
    let mut server = start(&[]).await?;
    let connection = Connection::open(&server).await?;
    let txn = |levels| Call::range().path("/etcdserverpb.KV/Txn").body(nested(levels));
    assert_eq!(connection.call(&txn(40)).await?.status(), (0, ""));
    // At most as deep as the limit of operations, of which each level is one.
    let too_many = (INVALID_ARGUMENT, "etcdserver: too many operations in txn request");
    for levels in [129, 1000, 200_000] {
        assert_eq!(connection.call(&txn(levels)).await?.status(), too_many, "{levels} levels");
    }
    unharmed(&mut server).await
}
