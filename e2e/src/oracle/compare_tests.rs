//! Proves that the comparer sees: one right answer of each kind, altered in one way after the
//! other, must differ every time.

use keelson_api::etcdserverpb::response_op::Response;
use keelson_api::etcdserverpb::*;
use keelson_api::mvccpb::KeyValue;
use tonic::Code;

use super::*;
use crate::oracle::lease_names::{CHOSEN, LeaseNames};
use crate::oracle::normal;
use crate::oracle::outcome::StreamedRange;

/// Every alteration of `right` must be seen, and `right` itself must not.
pub(super) fn sees<T: Clone>(right: T, outcome: impl Fn(T) -> Outcome, alterations: &[fn(&mut T)]) {
    assert!(compare(outcome(right.clone()), outcome(right.clone())).is_none());
    for (number, alter) in alterations.iter().enumerate() {
        let mut wrong = right.clone();
        alter(&mut wrong);
        let seen = compare(outcome(right.clone()), outcome(wrong));
        assert!(seen.is_some(), "alteration {number} of {:?}", outcome(right));
    }
}

pub(super) fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: 1, member_id: 1, revision: 7, raft_term: 1 })
}

pub(super) fn kv() -> KeyValue {
    KeyValue { key: "a".into(), value: "v".into(), create_revision: 3, mod_revision: 5, version: 2, lease: CHOSEN }
}

fn range() -> RangeResponse {
    RangeResponse { header: header(), kvs: vec![kv(), KeyValue { key: "b".into(), ..kv() }], more: true, count: 3 }
}

#[test]
fn every_field_of_a_header_but_the_identity_of_the_server() {
    sees(
        range(),
        Outcome::Range,
        &[
            |r| r.header = None,
            |r| r.header.as_mut().unwrap().revision = 8,
            |r| r.header.as_mut().unwrap().cluster_id = 0,
            |r| r.header.as_mut().unwrap().member_id = 0,
            |r| r.header.as_mut().unwrap().raft_term = 0,
        ],
    );
}

#[test]
fn every_field_of_a_range() {
    sees(
        range(),
        Outcome::Range,
        &[
            |r| r.more = false,
            |r| r.count = 2,
            |r| r.kvs.truncate(1),
            |r| r.kvs.swap(0, 1),
            |r| r.kvs[0].key = "c".into(),
            |r| r.kvs[0].value = "".into(),
            |r| r.kvs[0].create_revision = 4,
            |r| r.kvs[0].mod_revision = 6,
            |r| r.kvs[0].version = 1,
            |r| r.kvs[0].lease = 0,
        ],
    );
}

#[test]
fn every_field_of_a_streamed_range_but_not_its_chunks() {
    let one = {
        let mut streamed = StreamedRange::default();
        streamed.add(Some(range()));
        streamed
    };
    let two = {
        let mut streamed = StreamedRange::default();
        streamed.add(Some(RangeResponse { kvs: vec![kv()], ..Default::default() }));
        streamed.add(Some(RangeResponse { kvs: range().kvs[1..].to_vec(), ..range() }));
        streamed
    };
    assert!(compare(Outcome::RangeStream(one.clone()), Outcome::RangeStream(two)).is_none());
    sees(
        one,
        Outcome::RangeStream,
        &[
            |r| r.merged.more = false,
            |r| r.merged.count = 2,
            |r| r.merged.header = None,
            |r| r.merged.kvs.swap(0, 1),
            |r| r.end = Some((Code::OutOfRange, "compacted".into())),
            |r| r.add(None),
            |r| r.add(Some(RangeResponse::default())),
        ],
    );
}

#[test]
fn every_field_of_writes() {
    sees(
        PutResponse { header: header(), prev_kv: Some(kv()) },
        Outcome::Put,
        &[|r| r.prev_kv = None, |r| r.prev_kv.as_mut().unwrap().value = "w".into(), |r| r.header = None],
    );
    let delete = DeleteRangeResponse { header: header(), deleted: 1, prev_kvs: vec![kv()] };
    sees(
        delete,
        Outcome::DeleteRange,
        &[|r| r.deleted = 2, |r| r.prev_kvs.clear(), |r| r.prev_kvs[0].version = 9, |r| r.header = None],
    );
    sees(CompactionResponse { header: header() }, Outcome::Compact, &[|r| r.header.as_mut().unwrap().revision = 0]);
}

#[test]
fn every_part_of_a_transaction_at_any_depth() {
    let op = |response| ResponseOp { response: Some(response) };
    let inner = TxnResponse { header: header(), succeeded: true, responses: vec![op(Response::ResponseRange(range()))] };
    let txn = TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![
            op(Response::ResponsePut(PutResponse { header: header(), prev_kv: None })),
            op(Response::ResponseTxn(inner)),
        ],
    };
    fn inner_of(txn: &mut TxnResponse) -> &mut TxnResponse {
        let Some(Response::ResponseTxn(inner)) = &mut txn.responses[1].response else { panic!() };
        inner
    }
    sees(
        txn,
        Outcome::Txn,
        &[
            |r| r.succeeded = false,
            |r| r.responses.swap(0, 1),
            |r| r.responses.truncate(1),
            |r| r.responses[0].response = None,
            |r| inner_of(r).succeeded = false,
            |r| inner_of(r).header = None,
            |r| inner_of(r).responses.clear(),
        ],
    );
}

#[test]
fn every_field_of_lease_answers() {
    let grant = LeaseGrantResponse { header: header(), id: 4, ttl: 900, error: String::new() };
    let alterations: [fn(&mut LeaseGrantResponse); 4] =
        [|r| r.id = 5, |r| r.ttl = 901, |r| r.error = "no".into(), |r| r.header = None];
    sees(grant.clone(), Outcome::LeaseGrant, &alterations);
    let short = |grant| Outcome::ShortLease { grant, revoke: Box::new(Outcome::Watching) };
    sees(grant, short, &alterations);
    sees(LeaseRevokeResponse { header: header() }, Outcome::LeaseRevoke, &[|r| r.header = None]);
    let alive = LeaseKeepAliveResponse { header: header(), id: 4, ttl: 900 };
    sees(alive, Outcome::LeaseKeepAlive, &[|r| r.id = 5, |r| r.ttl = 0, |r| r.header = None]);
    let leases = LeaseLeasesResponse { header: header(), leases: vec![LeaseStatus { id: 1 }, LeaseStatus { id: 2 }] };
    sees(leases, Outcome::LeaseLeases, &[|r| r.leases.swap(0, 1), |r| r.leases.truncate(1)]);
}

#[test]
fn a_remaining_ttl_may_be_a_second_off_but_not_two_and_not_absent() {
    let ttl = |ttl| LeaseTimeToLiveResponse { header: header(), id: 4, ttl, granted_ttl: 900, keys: vec!["a".into()] };
    let differs = |l, r| compare(Outcome::LeaseTimeToLive(ttl(l)), Outcome::LeaseTimeToLive(ttl(r))).is_some();
    assert!(!differs(899, 900) && !differs(900, 899) && differs(900, 898));
    assert!(differs(-1, 0) && differs(0, -1) && !differs(-1, -1));
    sees(
        ttl(900),
        Outcome::LeaseTimeToLive,
        &[|r| r.granted_ttl = 901, |r| r.keys.clear(), |r| r.keys[0] = "b".into(), |r| r.id = 5],
    );
}

#[test]
fn codes_and_texts_of_refusals() {
    sees(
        (Code::NotFound, "gone".to_owned()),
        |(code, message)| Outcome::Refused { code, message },
        &[|(code, _)| *code = Code::Unknown, |(_, message)| message.push('.')],
    );
    let refused = Outcome::Refused { code: Code::NotFound, message: String::new() };
    assert!(compare(refused, Outcome::Range(range())).is_some());
}

#[test]
fn no_answer_is_wrong_even_when_both_give_none() {
    assert!(compare(Outcome::Lost("x".into()), Outcome::Lost("x".into())).is_some());
}

#[test]
fn only_the_identity_of_the_server_and_of_its_leases_is_normalised() {
    let answer = |cluster_id, lease| {
        let mut names = LeaseNames::default();
        names.add(lease);
        let mut response = range();
        let server = ResponseHeader { cluster_id, member_id: cluster_id, revision: 7, raft_term: cluster_id };
        response.header = Some(server);
        response.kvs[0].lease = lease;
        response.kvs[1].lease = 5;
        normal::range(&mut response, &names);
        response
    };
    assert_eq!(answer(11, 1_000_001), answer(12, 1_000_002));
    assert_eq!(answer(11, 1_000_001).kvs[0].lease, CHOSEN);
    assert_eq!(answer(11, 1_000_001).kvs[1].lease, 5);
}
