//! The gRPC services: which methods there are and where each call goes.

mod auth;
mod cluster;
mod downgrade;
mod election;
mod follow;
mod guard;
mod kv;
mod large_range;
mod lease;
mod line;
mod lock;
mod maintenance;
mod method;
mod range_stream;
mod snapshot;
mod stats;
mod watch;
mod watch_stream;

use std::sync::Arc;
use std::time::Instant;

use h2::RecvStream;
use keelson_api::{Code, Error};

use crate::grpc::{Call, Encoding, MessageReader, Respond, Status, Told, half};
use crate::member::Member;

pub use kv::range as range_for_health;
pub use method::Method;
pub use snapshot::AT_ONCE as SNAPSHOTS_AT_ONCE;

/// Bytes beyond the request limit that a message may have: what wraps the request.
pub const MESSAGE_OVERHEAD: usize = 512 << 10;

/// Serves one call from its path to its trailers.
pub async fn serve(member: Arc<Member>, path: &str, mut call: Call, body: RecvStream, mut respond: Respond) {
    let Some(method) = Method::of(path) else {
        respond.refuse(&Status::new(Code::Unimplemented, no_such_method(path)));
        return;
    };
    call.account = stats::account(method);
    let span = member.traces.as_ref().and_then(|tracer| Some((tracer, tracer.begin(&call.headers)?)));
    let refused = span.is_some().then(Told::default);
    let begun = Instant::now();
    member.metrics.started(method);
    let code = dispatch(&member, method, &call, body, respond.telling(refused.clone())).await;
    let took = begun.elapsed();
    member.metrics.handled(method, code, took);
    if let Some((tracer, begun)) = span {
        tracer.end(begun, method, &call, code, refused.as_ref().and_then(Told::text));
    }
    if method.kind() == "unary" {
        stats::tell(&member, method, path, &call, code, took);
    }
}

/// An answer of another kind than its question is a bug that must not take the process down.
fn mismatched() -> Status {
    Status::new(Code::Internal, "keelson: the reply does not fit the request; this is a bug")
}

/// etcd's library takes what follows the last slash for the method, and a query for a part of it.
fn no_such_method(path: &str) -> String {
    match path.strip_prefix('/').and_then(|p| p.rsplit_once('/')) {
        None => format!("malformed method name: {path:?}"),
        Some((service, name)) if Method::ALL.iter().any(|m| m.service() == service) => {
            format!("unknown method {name} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    }
}

/// What a client says of itself.
fn client_version(call: &Call) -> Result<&str, Error> {
    match call.headers.get("client-api-version") {
        Some(version) => std::str::from_utf8(version.as_bytes()).map_err(|_| Error::InvalidClientApiVersion),
        None => Ok("unknown"),
    }
}

async fn dispatch(member: &Arc<Member>, method: Method, call: &Call, body: RecvStream, mut respond: Respond) -> Option<Code> {
    let encoding = match Encoding::of(&call.headers) {
        Ok(encoding) => encoding,
        Err(status) => return respond.refuse(&status),
    };
    let reader = MessageReader::new(body, encoding, member.config.max_request_bytes + MESSAGE_OVERHEAD).within(&half::OF_CLIENTS);
    if method.kind() == "unary" {
        member.metrics.received(method);
        member.metrics.sent(method);
    }
    let of_its_own_state = matches!(method, Method::Range | Method::Status | Method::Snapshot);
    let serves_learners = of_its_own_state || method.service() == "grpc.health.v1.Health";
    if !serves_learners && member.is_learner() {
        return respond.refuse(&Error::NotSupportedForLearner.into());
    }
    match client_version(call) {
        Ok(version) => member.metrics.clients.asked(method.kind() == "unary", version),
        Err(e) => return respond.refuse(&e.into()),
    }
    if call.wants_leader() && member.status().leader.is_none() {
        return respond.refuse(&Error::NoLeader.into());
    }
    if guard::applies(method)
        && let Err(e) = guard::check(member, method, call).await
    {
        return respond.refuse(&e.into());
    }
    let m = member.clone();
    match method {
        Method::Range => respond.unary_in_pieces(call, reader, |r| kv::range_of_any_size(m, call, r)).await,
        Method::Put => respond.unary(call, reader, |r| kv::put(m, call, r)).await,
        Method::DeleteRange => respond.unary(call, reader, |r| kv::delete_range(m, call, r)).await,
        Method::Txn => respond.unary(call, reader.explained_by(kv::nested_too_deep), |r| kv::txn(m, call, r)).await,
        Method::Compact => respond.unary(call, reader, |r| kv::compact(m, r)).await,
        Method::RangeStream => range_stream::serve(m, call, reader, respond).await,
        Method::Watch => watch::serve(m, call, reader, respond).await,
        Method::LeaseGrant => respond.unary(call, reader, |r| lease::grant(m, r)).await,
        Method::LeaseRevoke => respond.unary(call, reader, |r| lease::revoke(m, call, r)).await,
        Method::LeaseTimeToLive => respond.unary(call, reader, |r| lease::time_to_live(m, call, r)).await,
        Method::LeaseLeases => respond.unary(call, reader, |r| lease::leases(m, call, r)).await,
        Method::LeaseKeepAlive => lease::keep_alive(m, call, reader, respond).await,
        Method::MemberList => respond.unary(call, reader, |r| cluster::member_list(m, call, r)).await,
        Method::MemberAdd => respond.unary(call, reader, |r| cluster::member_add(m, r)).await,
        Method::MemberRemove => respond.unary(call, reader, |r| cluster::member_remove(m, r)).await,
        Method::MemberUpdate => respond.unary(call, reader, |r| cluster::member_update(m, r)).await,
        Method::MemberPromote => respond.unary(call, reader, |r| cluster::member_promote(m, r)).await,
        Method::MoveLeader => respond.unary(call, reader, |r| maintenance::move_leader(m, r)).await,
        Method::Alarm => respond.unary(call, reader, |r| maintenance::alarm(m, call, r)).await,
        Method::Status => respond.unary(call, reader, |r| maintenance::status(m, r)).await,
        Method::Defragment => respond.unary(call, reader, |r| maintenance::defragment(m, r)).await,
        Method::Hash => respond.unary(call, reader, |r| maintenance::hash(m, r)).await,
        Method::HashKv => respond.unary(call, reader, |r| maintenance::hash_kv(m, r)).await,
        Method::Downgrade => respond.unary(call, reader, |r| downgrade::downgrade(m, r)).await,
        Method::AuthEnable => respond.unary(call, reader, |r| auth::enable(m, call, r)).await,
        Method::AuthDisable => respond.unary(call, reader, |r| auth::disable(m, call, r)).await,
        Method::AuthStatus => respond.unary(call, reader, |r| auth::status(m, call, r)).await,
        // Those with passwords wait in a line, where nobody is to stand who has gone away.
        Method::Authenticate => respond.unary_while_wanted(call, reader, |r| Box::pin(auth::authenticate(m, r))).await,
        Method::UserAdd => respond.unary_while_wanted(call, reader, |r| Box::pin(auth::user_add(m, call, r))).await,
        Method::UserGet => respond.unary(call, reader, |r| auth::user_get(m, call, r)).await,
        Method::UserList => respond.unary(call, reader, |r| auth::user_list(m, call, r)).await,
        Method::UserDelete => respond.unary(call, reader, |r| auth::user_delete(m, call, r)).await,
        Method::UserChangePassword => {
            respond.unary_while_wanted(call, reader, |r| Box::pin(auth::user_change_password(m, call, r))).await
        }
        Method::UserGrantRole => respond.unary(call, reader, |r| auth::user_grant_role(m, call, r)).await,
        Method::UserRevokeRole => respond.unary(call, reader, |r| auth::user_revoke_role(m, call, r)).await,
        Method::RoleAdd => respond.unary(call, reader, |r| auth::role_add(m, call, r)).await,
        Method::RoleGet => respond.unary(call, reader, |r| auth::role_get(m, call, r)).await,
        Method::RoleList => respond.unary(call, reader, |r| auth::role_list(m, call, r)).await,
        Method::RoleDelete => respond.unary(call, reader, |r| auth::role_delete(m, call, r)).await,
        Method::RoleGrantPermission => respond.unary(call, reader, |r| auth::role_grant_permission(m, call, r)).await,
        Method::RoleRevokePermission => respond.unary(call, reader, |r| auth::role_revoke_permission(m, call, r)).await,
        Method::Snapshot => snapshot::serve(m, call, reader, respond).await,
        // These are boxed, so that they are not part of what every call takes.
        Method::Lock => respond.unary_while_wanted(call, reader, |r| Box::pin(lock::lock(m, call, r))).await,
        Method::Unlock => respond.unary(call, reader, |r| Box::pin(lock::unlock(m, call, r))).await,
        Method::Campaign => respond.unary_while_wanted(call, reader, |r| Box::pin(election::campaign(m, call, r))).await,
        Method::Proclaim => respond.unary(call, reader, |r| Box::pin(election::proclaim(m, call, r))).await,
        Method::Leader => respond.unary(call, reader, |r| Box::pin(election::leader(m, call, r))).await,
        Method::Observe => Box::pin(election::observe(m, call, reader, respond)).await,
        Method::Resign => respond.unary(call, reader, |r| Box::pin(election::resign(m, call, r))).await,
        Method::HealthCheck => respond.unary(call, reader, maintenance::health_check).await,
        Method::HealthList => respond.unary(call, reader, maintenance::health_list).await,
        Method::HealthWatch => maintenance::health_watch(m, reader, respond).await,
    }
}
