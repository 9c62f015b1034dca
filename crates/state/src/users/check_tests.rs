//! Whose requests are let through: a reader of `r`, a writer of `w`, root, and nobody.

use keelson_api::authpb::permission::Type;
use keelson_api::authpb::{Permission, Role, User};
use keelson_api::etcdserverpb::Compare;
use keelson_mvcc::{Backend, MemoryBackend};

use super::*;

fn users() -> Users {
    let mut users = Users { is_on: true, revision: 5, ..Users::default() };
    for (name, kind, key) in [("reader", Type::Read, "r"), ("writer", Type::Write, "w")] {
        let permission = Permission { perm_type: kind.into(), key: key.into(), range_end: "z".into() };
        users.roles.insert(name.into(), Role { name: name.into(), key_permission: vec![permission] });
        let row = User { name: name.into(), roles: vec![name.into()], ..User::default() };
        users.by_name.insert(name.into(), super::super::Known { row, ..Default::default() });
    }
    let root = User { name: "admin".into(), roles: vec![ROOT.into()], ..User::default() };
    users.by_name.insert("admin".into(), super::super::Known { row: root, ..Default::default() });
    users.settle();
    users
}

fn caller(user: &str) -> Caller<'_> {
    Caller { user, revision: 5 }
}

fn range(key: &'static str) -> RequestOp {
    let r = keelson_api::etcdserverpb::RangeRequest { key: key.into(), ..Default::default() };
    RequestOp { request: Some(Request::RequestRange(r)) }
}

fn put(key: &'static str, prev_kv: bool) -> PutRequest {
    PutRequest { key: key.into(), prev_kv, ..PutRequest::default() }
}

fn put_op(key: &'static str) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(put(key, false))) }
}

fn nested(depth: usize, op: RequestOp, in_failure: bool) -> TxnRequest {
    (0..depth).fold(TxnRequest { success: vec![op], ..TxnRequest::default() }, |inner, _| {
        let op = vec![RequestOp { request: Some(Request::RequestTxn(inner)) }];
        if in_failure {
            TxnRequest { failure: op, ..TxnRequest::default() }
        } else {
            TxnRequest { success: op, ..TxnRequest::default() }
        }
    })
}

#[test]
fn nobody_the_unknown_and_the_outdated_are_refused_each_in_its_own_words() {
    let users = users();
    let check = |caller: Caller<'_>| users.check(caller, Right::Read, b"r", b"");
    assert_eq!(check(caller("reader")), Ok(()));
    assert_eq!(check(Caller::default()), Err(Error::UserEmpty));
    assert_eq!(check(Caller { user: "reader", revision: 4 }), Err(Error::AuthOldRevision));
    assert_eq!(check(Caller { user: "admin", revision: 4 }), Err(Error::AuthOldRevision));
    assert_eq!(check(caller("gone")), Err(Error::PermissionDenied));
    assert_eq!(check(caller("writer")), Err(Error::PermissionDenied));
    assert_eq!(check(caller("admin")), Ok(()));
    let off = Users { is_on: false, ..users.clone() };
    assert_eq!(off.check(Caller::default(), Right::Write, b"w", b""), Ok(()));
    assert_eq!(off.check_root(Caller::default()), Ok(()));
}

#[test]
fn only_root_manages_at_whichever_revision_it_came() {
    let users = users();
    assert_eq!(users.check_root(Caller { user: "admin", revision: 1 }), Ok(()));
    assert_eq!(users.check_root(caller("reader")), Err(Error::PermissionDenied));
    assert_eq!(users.check_root(caller("gone")), Err(Error::UserNotFound));
    assert_eq!(users.check_root(caller("")), Err(Error::UserEmpty));
}

#[test]
fn what_was_there_before_is_told_to_readers_only() {
    let (users, leases) = (users(), Leases::default());
    assert_eq!(users.check_put(&leases, caller("writer"), &put("x", false)), Ok(()));
    // A reader up to `z`, a writer up to `z`: but nobody is both.
    assert_eq!(users.check_put(&leases, caller("writer"), &put("x", true)), Err(Error::PermissionDenied));
    let delete = |prev_kv| DeleteRangeRequest { key: "w".into(), range_end: "y".into(), prev_kv };
    assert_eq!(users.check_delete(caller("writer"), &delete(false)), Ok(()));
    assert_eq!(users.check_delete(caller("writer"), &delete(true)), Err(Error::PermissionDenied));
    assert_eq!(users.check_delete(caller("admin"), &delete(true)), Ok(()));
}

#[test]
fn whoever_attaches_a_key_to_a_lease_must_be_able_to_write_all_its_keys() {
    let (users, mut leases) = (users(), Leases::default());
    leases.grant(7, 60, &mut MemoryBackend::default().batch());
    leases.attach(7, "w".into());
    let with_lease = PutRequest { lease: 7, ..put("x", false) };
    assert_eq!(users.check_put(&leases, caller("writer"), &with_lease), Ok(()));
    leases.attach(7, "a".into());
    assert_eq!(users.check_put(&leases, caller("writer"), &with_lease), Err(Error::PermissionDenied));
    assert_eq!(users.check_put(&leases, caller("admin"), &with_lease), Ok(()));
}

#[test]
fn transactions_are_checked_at_every_depth_in_both_branches_and_in_their_conditions() {
    let (users, leases) = (users(), Leases::default());
    let check = |user, r: &TxnRequest| users.check_txn(&leases, caller(user), r);
    for (depth, in_failure) in [(0, false), (1, false), (1, true), (3, true), (3, false)] {
        assert_eq!(check("writer", &nested(depth, put_op("x"), in_failure)), Ok(()));
        assert_eq!(check("reader", &nested(depth, put_op("x"), in_failure)), Err(Error::PermissionDenied));
        assert_eq!(check("reader", &nested(depth, range("r"), in_failure)), Ok(()));
        assert_eq!(check("writer", &nested(depth, range("r"), in_failure)), Err(Error::PermissionDenied));
    }
    let condition = Compare { key: "x".into(), ..Compare::default() };
    let conditional = TxnRequest { compare: vec![condition], success: vec![put_op("x")], ..TxnRequest::default() };
    assert_eq!(check("writer", &conditional), Err(Error::PermissionDenied));
    assert_eq!(check("admin", &conditional), Ok(()));
    assert_eq!(check("", &TxnRequest::default()), Ok(()), "nothing is asked for");
}
