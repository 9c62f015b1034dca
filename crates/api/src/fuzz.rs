//! Fuzz targets for the messages of the wire and the log, as they are decoded from any bytes.

use keelson_fuzz::{Damage, damaged, target};
use prost::Message;

use crate::authpb::{Role, User};
use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::{
    AlarmRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest, AuthenticateRequest, CompactionRequest, DeleteRangeRequest,
    LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchRequest,
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

#[test]
fn any_bytes_are_a_message_that_encodes_again_or_are_refused() {
    target!(30_000).for_each(|bytes: &[u8]| check_all(bytes));
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
