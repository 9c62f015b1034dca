//! Every method, called by nobody, with a token that nobody has, by a user and by root: all are answered as etcd answers them.

use anyhow::{Result, ensure};
use keelson_api::etcdserverpb::alarm_request::AlarmAction;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserListRequest,
    AuthUserRevokeRoleRequest, AuthenticateRequest, CompactionRequest, DefragmentRequest, DeleteRangeRequest, DowngradeRequest,
    HashKvRequest, HashRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
    MoveLeaderRequest, PutRequest, RangeRequest, SnapshotRequest, StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest,
};
use keelson_api::v3electionpb::LeaderRequest;
use keelson_api::v3lockpb::{LockRequest, UnlockRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tonic::Status;

use super::common::{Caller, FLAGS, ask_for_users, both, said};

/// Calls a method; answers its name and what was said.
macro_rules! call {
    ($caller:expr, $client:ident . $method:ident ( $request:expr )) => {{
        let request = $caller.ask($request);
        (stringify!($method), said($caller.$client().$method(request).await))
    }};
}

/// A watch is refused in a message of its stream, which goes on.
async fn watch(caller: &Caller, key: &'static str, range_end: &'static str) -> Result<String, Status> {
    let create = WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut answers = caller.watch().watch(caller.ask(requests)).await?.into_inner();
    let answer = answers.message().await?.unwrap_or_default();
    Ok(format!("{} {} {} {}", answer.created, answer.canceled, answer.watch_id, answer.cancel_reason))
}

async fn keep_alive(caller: &Caller, id: i64) -> Result<i64, Status> {
    let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut answers = caller.lease().lease_keep_alive(caller.ask(requests)).await?.into_inner();
    Ok(answers.message().await?.unwrap_or_default().ttl)
}

async fn stream(caller: &Caller, key: &'static str) -> Result<(), Status> {
    let range = RangeRequest { key: key.into(), ..Default::default() };
    let mut answers = caller.kv().range_stream(caller.ask(range)).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

async fn snapshot(caller: &Caller) -> Result<(), Status> {
    let mut answers = caller.maintenance().snapshot(caller.ask(SnapshotRequest {})).await?.into_inner();
    answers.message().await.map(|_| ())
}

/// As long as nobody stands there, who may observe waits.
async fn observe(caller: &Caller) -> Result<(), Status> {
    let request = LeaderRequest { name: "election".into() };
    let mut answers = caller.elections().observe(caller.ask(request)).await?.into_inner();
    answers.message().await.map(|_| ())
}

fn alarm(action: AlarmAction) -> AlarmRequest {
    AlarmRequest { action: action.into(), ..Default::default() }
}

/// What each method says. Nothing that root may do here changes anything that a later call depends on.
async fn calls(caller: &Caller, is_root: bool) -> Vec<(&'static str, String)> {
    let key = || "k".into();
    let mut said_by = vec![
        call!(caller, kv.range(RangeRequest { key: key(), ..Default::default() })),
        call!(caller, kv.put(PutRequest { key: key(), ..Default::default() })),
        call!(caller, kv.delete_range(DeleteRangeRequest { key: key(), ..Default::default() })),
        call!(caller, kv.txn(TxnRequest::default())),
        call!(caller, kv.compact(CompactionRequest { revision: 1_000, physical: false })),
        ("range_stream", said(stream(caller, "k").await)),
        ("watch", format!("{:?}", watch(caller, "k", "").await.map_err(|e| said::<()>(Err(e))))),
        call!(caller, lease.lease_grant(LeaseGrantRequest { ttl: 60, id: 0 })),
        call!(caller, lease.lease_revoke(LeaseRevokeRequest { id: 404 })),
        call!(caller, lease.lease_time_to_live(LeaseTimeToLiveRequest { id: 404, keys: true })),
        call!(caller, lease.lease_leases(LeaseLeasesRequest {})),
        ("lease_keep_alive", said(keep_alive(caller, 404).await)),
        call!(caller, cluster.member_list(MemberListRequest { linearizable: true })),
        call!(caller, cluster.member_remove(MemberRemoveRequest { id: 404 })),
        call!(caller, cluster.member_update(MemberUpdateRequest { id: 404, peer_ur_ls: vec!["http://127.0.0.1:1".into()] })),
        call!(caller, cluster.member_promote(MemberPromoteRequest { id: 404 })),
        call!(caller, maintenance.alarm(alarm(AlarmAction::Get))),
        call!(caller, maintenance.alarm(alarm(AlarmAction::Activate))),
        call!(caller, maintenance.alarm(alarm(AlarmAction::Deactivate))),
        call!(caller, maintenance.status(StatusRequest {})),
        call!(caller, maintenance.defragment(DefragmentRequest {})),
        call!(caller, maintenance.hash(HashRequest {})),
        call!(caller, maintenance.hash_kv(HashKvRequest { revision: 0 })),
        call!(caller, maintenance.move_leader(MoveLeaderRequest { target_id: 404 })),
        call!(caller, auth.auth_enable(AuthEnableRequest {})),
        call!(caller, auth.auth_status(AuthStatusRequest {})),
        call!(caller, auth.authenticate(AuthenticateRequest { name: "ann".into(), password: "wrong".into() })),
        call!(caller, auth.user_add(AuthUserAddRequest { name: "ann".into(), ..Default::default() })),
        call!(caller, auth.user_get(AuthUserGetRequest { name: "ann".into() })),
        call!(caller, auth.user_get(AuthUserGetRequest { name: "root".into() })),
        call!(caller, auth.user_get(AuthUserGetRequest::default())),
        call!(caller, auth.user_list(AuthUserListRequest {})),
        call!(caller, auth.user_delete(AuthUserDeleteRequest { name: "gone".into() })),
        call!(caller, auth.user_change_password(AuthUserChangePasswordRequest { name: "gone".into(), ..Default::default() })),
        call!(caller, auth.user_grant_role(AuthUserGrantRoleRequest { user: "ann".into(), role: "some".into() })),
        call!(caller, auth.user_revoke_role(AuthUserRevokeRoleRequest { name: "ann".into(), role: "gone".into() })),
        call!(caller, auth.role_add(AuthRoleAddRequest { name: "some".into() })),
        call!(caller, auth.role_get(AuthRoleGetRequest { role: "some".into() })),
        call!(caller, auth.role_get(AuthRoleGetRequest { role: "root".into() })),
        call!(caller, auth.role_list(AuthRoleListRequest {})),
        call!(caller, auth.role_delete(AuthRoleDeleteRequest { role: "gone".into() })),
        call!(caller, auth.role_grant_permission(AuthRoleGrantPermissionRequest { name: "some".into(), perm: None })),
        call!(caller, auth.role_revoke_permission(AuthRoleRevokePermissionRequest { role: "some".into(), ..Default::default() })),
        // Nobody but root may lock this, so that nobody waits for it.
        call!(caller, locks.lock(LockRequest { name: "lock".into(), lease: 0 })),
        call!(caller, locks.unlock(UnlockRequest { key: "lock/none".into() })),
        call!(caller, elections.leader(LeaderRequest { name: "election".into() })),
    ];
    if !is_root {
        // What would change the server if it were let through, or is not there yet for who may.
        let member_add = MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:1".into()], is_learner: true };
        said_by.extend([
            call!(caller, cluster.member_add(member_add)),
            call!(caller, maintenance.downgrade(DowngradeRequest::default())),
            ("snapshot", said(snapshot(caller).await)),
            ("observe", said(observe(caller).await)),
            call!(caller, auth.auth_disable(AuthDisableRequest {})),
        ]);
    }
    said_by
}

async fn told(program: Program) -> Result<Vec<(&'static str, &'static str, String)>> {
    let server = Server::start(program, FLAGS).await?;
    let root = ask_for_users(&server).await?;
    let (nobody, ann) = (Caller::nobody(&server).await?, Caller::named(&server, "ann").await?);
    let who = [
        ("nobody", nobody.clone()),
        ("no simple token", nobody.with("nonsense")),
        ("a token that was never given", nobody.with("abcdefghijklmnop.1")),
        ("ann", ann.clone()),
        ("ann, as gateways have it", nobody.with(&format!("Bearer {}", ann.token().unwrap_or_default()))),
        ("root", root),
    ];
    let mut told = Vec::new();
    for (name, caller) in who {
        told.extend(calls(&caller, name == "root").await.into_iter().map(|(method, said)| (name, method, said)));
    }
    Ok(told)
}

#[tokio::test]
async fn every_method_answers_nobody_strangers_users_and_root_as_etcds_does() -> Result<()> {
    let [etcd, other] = both()?;
    let (expected, told) = (told(etcd).await?, told(other).await?);
    let differing: Vec<_> = expected.iter().zip(&told).filter(|(expected, told)| expected != told).collect();
    for (expected, told) in &differing {
        println!("expected {expected:?}\ntold     {told:?}");
    }
    ensure!(expected.len() == told.len() && differing.is_empty(), "{} answers differ", differing.len());
    // The table cannot be right by saying the same to everybody.
    let count = |text: &str| told.iter().filter(|(_, _, said)| said.contains(text)).count();
    for text in ["accepted", "user name is empty", "invalid auth token", "permission denied"] {
        ensure!(count(text) >= 20, "{text}: {}", count(text));
    }
    Ok(())
}
