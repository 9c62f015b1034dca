//! Fuzz targets for the messages of the wire and the log, as they are decoded from any bytes.

use keelson_fuzz::{Damage, damaged, target};
use prost::Message;

use crate::authpb::{Role, User};
use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::{
    AlarmRequest, AlarmResponse, AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthUserAddRequest, AuthUserListResponse,
    AuthenticateRequest, AuthenticateResponse, CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, HashKvResponse,
    LeaseGrantRequest, LeaseTimeToLiveResponse, MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RangeStreamResponse, RequestOp, SnapshotResponse, StatusResponse, TxnRequest, TxnResponse, WatchRequest, WatchResponse,
};
use crate::keelson::peer::{
    AppendReply, AppendRequest, HashReply, LeadReply, LeadRequest, ProposeReply, ProposeRequest, ReadIndexReply, RemovedRequest,
    SnapshotPiece, SnapshotReply, TransferReply, TransferRequest, VoteReply, VoteRequest,
};
use crate::keelson::{AppliedRow, Command, LeaseRow, MemberAttributes, MembershipRow};

/// What can be decoded is what would be encoded from it.
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let encoded = message.encode_to_vec();
    assert_eq!(encoded.len(), message.encoded_len());
    assert_eq!(M::decode(encoded.as_slice()), Ok(message));
}

fn check_all(bytes: &[u8]) {
    check::<RangeRequest>(bytes);
    check::<PutRequest>(bytes);
    check::<DeleteRangeRequest>(bytes);
    check::<TxnRequest>(bytes);
    check::<CompactionRequest>(bytes);
    check::<WatchRequest>(bytes);
    check::<LeaseGrantRequest>(bytes);
    check::<AlarmRequest>(bytes);
    check::<AuthenticateRequest>(bytes);
    check::<AuthUserAddRequest>(bytes);
    check::<AuthRoleGrantPermissionRequest>(bytes);
    check::<User>(bytes);
    check::<Role>(bytes);
    check::<Command>(bytes);
    check::<AppliedRow>(bytes);
    check::<MembershipRow>(bytes);
    check::<LeaseRow>(bytes);
    check::<MemberAttributes>(bytes);
}

/// What members say to each other.
fn check_peers(bytes: &[u8]) {
    check::<AppendRequest>(bytes);
    check::<AppendReply>(bytes);
    check::<VoteRequest>(bytes);
    check::<VoteReply>(bytes);
    check::<TransferRequest>(bytes);
    check::<TransferReply>(bytes);
    check::<ProposeRequest>(bytes);
    check::<ProposeReply>(bytes);
    check::<ReadIndexReply>(bytes);
    check::<LeadRequest>(bytes);
    check::<LeadReply>(bytes);
    check::<SnapshotPiece>(bytes);
    check::<SnapshotReply>(bytes);
    check::<HashReply>(bytes);
    check::<RemovedRequest>(bytes);
}

/// What clients read, and members that meet in another cluster.
fn check_answers(bytes: &[u8]) {
    check::<RangeResponse>(bytes);
    check::<RangeStreamResponse>(bytes);
    check::<PutResponse>(bytes);
    check::<DeleteRangeResponse>(bytes);
    check::<TxnResponse>(bytes);
    check::<WatchResponse>(bytes);
    check::<LeaseTimeToLiveResponse>(bytes);
    check::<MemberListResponse>(bytes);
    check::<StatusResponse>(bytes);
    check::<AlarmResponse>(bytes);
    check::<HashKvResponse>(bytes);
    check::<SnapshotResponse>(bytes);
    check::<AuthenticateResponse>(bytes);
    check::<AuthRoleGetResponse>(bytes);
    check::<AuthUserListResponse>(bytes);
}

#[test]
fn any_bytes_are_a_message_that_encodes_again_or_are_refused() {
    target!(30_000).for_each(|bytes: &[u8]| check_all(bytes));
}

#[test]
fn any_bytes_are_a_message_of_a_member_that_encodes_again_or_are_refused() {
    target!(30_000).for_each(|bytes: &[u8]| check_peers(bytes));
}

#[test]
fn any_bytes_are_an_answer_that_encodes_again_or_are_refused() {
    target!(30_000).for_each(|bytes: &[u8]| check_answers(bytes));
}

#[test]
fn a_damaged_request_is_another_request_or_is_refused() {
    target!(1_500).with_type::<(Vec<u8>, Vec<u8>, i64, u8, Vec<Damage>)>().for_each(|(key, value, number, depth, damage)| {
        let put = PutRequest { key: key.clone().into(), value: value.clone().into(), lease: *number, ..PutRequest::default() };
        let mut op = RequestOp { request: Some(Request::RequestPut(put)) };
        for _ in 0..*depth {
            let txn = TxnRequest { success: vec![op], ..TxnRequest::default() };
            op = RequestOp { request: Some(Request::RequestTxn(txn)) };
        }
        check_all(&damaged(&op.encode_to_vec(), damage));
    });
}
