//! What users and roles can be made to be, and what not.

use keelson_api::authpb::permission::Type;
use keelson_api::etcdserverpb::AuthUserGrantRoleRequest as Grant;
use keelson_mvcc::{Backend, MemoryBackend};

use super::*;

type Batch = <MemoryBackend as Backend>::Batch;

fn empty() -> (Users, Batch) {
    (Users::default(), MemoryBackend::default().batch())
}

fn user(name: &str) -> UserAdd {
    UserAdd { name: name.into(), password: "hash".into(), no_password: false }
}

fn grant(user: &str, role: &str) -> Grant {
    Grant { user: user.into(), role: role.into() }
}

fn revoke(name: &str, role: &str) -> AuthUserRevokeRoleRequest {
    AuthUserRevokeRoleRequest { name: name.into(), role: role.into() }
}

fn permit(role: &str, kind: Type, key: &'static str, end: &'static str) -> AuthRoleGrantPermissionRequest {
    let perm = Some(Permission { perm_type: kind.into(), key: key.into(), range_end: end.into() });
    AuthRoleGrantPermissionRequest { name: role.into(), perm }
}

#[test]
fn users_are_asked_for_once_root_can_do_everything_and_root_stays_as_it_is_then() {
    let (mut users, mut batch) = empty();
    let batch = &mut batch;
    assert_eq!(users.enable(batch), Err(Error::RootUserNotExist));
    users.add_user(&user("root"), batch).unwrap();
    assert_eq!(users.enable(batch), Err(Error::RootRoleNotExist));
    users.grant_role(&grant("root", "root"), batch).unwrap();
    users.add_role("root", batch).unwrap();
    let before = users.revision();
    users.enable(batch).unwrap();
    users.enable(batch).unwrap();
    assert_eq!(users.revision(), before, "turning it on changes no user");
    assert_eq!(users.delete_user("root", batch), Err(Error::InvalidAuthMgmt));
    assert_eq!(users.delete_role("root", batch), Err(Error::InvalidAuthMgmt));
    assert_eq!(users.revoke_role(&revoke("root", "root"), batch), Err(Error::InvalidAuthMgmt));
    users.disable(batch);
    users.disable(batch);
    assert_eq!(users.revision(), before + 1);
    users.delete_role("root", batch).unwrap();
    users.delete_user("root", batch).unwrap();
}

#[test]
fn every_change_moves_the_auth_revision_and_what_changes_nothing_does_not() {
    let (mut users, mut batch) = empty();
    let batch = &mut batch;
    assert_eq!(users.revision(), 1);
    users.add_user(&user("a"), batch).unwrap();
    users.add_role("r", batch).unwrap();
    users.grant_role(&grant("a", "r"), batch).unwrap();
    assert_eq!(users.revision(), 4);
    users.grant_role(&grant("a", "r"), batch).unwrap();
    assert_eq!(users.add_user(&user("a"), batch), Err(Error::UserAlreadyExists));
    assert_eq!(users.add_user(&user(""), batch), Err(Error::UserEmpty));
    assert_eq!(users.add_role("r", batch), Err(Error::RoleAlreadyExists));
    assert_eq!(users.add_role("", batch), Err(Error::RoleEmpty));
    assert_eq!(users.grant_role(&grant("b", "r"), batch), Err(Error::UserNotFound));
    assert_eq!(users.grant_role(&grant("a", "s"), batch), Err(Error::RoleNotFound));
    assert_eq!(users.revoke_role(&revoke("a", "s"), batch), Err(Error::RoleNotGranted));
    assert_eq!(users.delete_user("b", batch), Err(Error::UserNotFound));
    assert_eq!(users.delete_role("s", batch), Err(Error::RoleNotFound));
    assert_eq!(users.revision(), 4);
    users.set_password(&UserPassword { name: "a".into(), password: "other".into() }, batch).unwrap();
    users.delete_role("r", batch).unwrap();
    assert_eq!((users.revision(), users.roles_of("a")), (6, Ok(Vec::new())));
}

#[test]
fn ranges_that_hold_no_key_are_not_granted_and_what_is_granted_is_found_again() {
    let (mut users, mut batch) = empty();
    let batch = &mut batch;
    users.add_role("r", batch).unwrap();
    for (key, end) in [("", ""), ("", "\0"), ("b", "b"), ("b", "a"), ("b", "\0\0")] {
        let refused = users.grant_permission(&permit("r", Type::Read, key, end), batch);
        assert_eq!(refused, Err(Error::InvalidAuthMgmt), "{key:?} {end:?}");
    }
    let nothing = AuthRoleGrantPermissionRequest { name: "r".into(), perm: None };
    assert_eq!(users.grant_permission(&nothing, batch), Err(Error::PermissionNotGiven));
    assert_eq!(users.grant_permission(&permit("s", Type::Read, "a", ""), batch), Err(Error::RoleNotFound));
    for (kind, key, end) in [(Type::Read, "b", "c"), (Type::Read, "a", ""), (Type::Write, "b", "c"), (Type::Read, "b", "\0")] {
        users.grant_permission(&permit("r", kind, key, end), batch).unwrap();
    }
    let granted: Vec<_> = users.permissions("r").unwrap().into_iter().map(|p| (p.perm_type, p.key, p.range_end)).collect();
    let of = |kind: Type, key: &'static str, end: &'static str| (i32::from(kind), Bytes::from(key), Bytes::from(end));
    assert_eq!(granted, [of(Type::Read, "a", ""), of(Type::Write, "b", "c"), of(Type::Read, "b", "\0")]);
    let take = |key: &'static str, end: &'static str| AuthRoleRevokePermissionRequest {
        role: "r".into(),
        key: key.into(),
        range_end: end.into(),
    };
    assert_eq!(users.revoke_permission(&take("b", ""), batch), Err(Error::PermissionNotGranted));
    users.revoke_permission(&take("b", "c"), batch).unwrap();
    assert_eq!(users.permissions("r").unwrap().len(), 2);
}

#[test]
fn who_has_no_password_does_not_get_one_and_does_not_sign_in() {
    let (mut users, mut batch) = empty();
    let batch = &mut batch;
    for name in ["root", "a"] {
        users.add_user(&user(name), batch).unwrap();
    }
    users.add_user(&UserAdd { no_password: true, ..user("bare") }, batch).unwrap();
    assert_eq!(users.password("a"), Err(Error::AuthNotEnabled));
    users.grant_role(&grant("root", "root"), batch).unwrap();
    users.enable(batch).unwrap();
    assert_eq!(users.password("a"), Ok("hash".into()));
    users.set_password(&UserPassword { name: "bare".into(), password: "hash".into() }, batch).unwrap();
    assert_eq!(users.password("bare"), Err(Error::NoPasswordUser));
    assert_eq!(users.password("gone"), Err(Error::AuthFailed));
    let sign_in = |name: &str| SignIn { name: name.into(), prefix: "p".into(), auth_revision: users.revision() };
    assert_eq!(users.sign_in(&sign_in("a")), Ok(()));
    assert_eq!(users.sign_in(&sign_in("bare")), Err(Error::AuthFailed));
    assert_eq!(users.sign_in(&SignIn { auth_revision: 1, ..sign_in("a") }), Err(Error::AuthOldRevision));
}
