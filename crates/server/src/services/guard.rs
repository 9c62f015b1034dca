//! What each method asks of its caller before its request is looked at, once users are asked for. Rights on keys are
//! checked later, by who knows the keys.

use keelson_api::Error;

use super::Method;
use crate::grpc::Call;
use crate::member::Member;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Anybody; or it depends on what is asked for, and is looked at there.
    Nothing,
    /// Anybody who is somebody.
    User,
    /// Who has the role root.
    Root,
}

/// The table. A method that is new has to be thought about here.
const fn need(method: Method) -> Need {
    use Method as M;
    match method {
        // By keys; in a stream for each message.
        M::Range | M::RangeStream | M::Put | M::DeleteRange | M::Txn | M::Watch => Need::Nothing,
        M::LeaseKeepAlive | M::LeaseLeases => Need::Nothing,
        // By keys as well, when they are applied or told.
        M::LeaseGrant | M::LeaseRevoke | M::LeaseTimeToLive => Need::User,
        // Alarms can be looked at; the rest of that is root's.
        M::MemberList | M::Status | M::Alarm => Need::User,
        M::Compact | M::MemberAdd | M::MemberRemove | M::MemberUpdate | M::MemberPromote => Need::Root,
        M::Defragment | M::Hash | M::HashKv | M::Snapshot | M::MoveLeader | M::Downgrade => Need::Root,
        // Who comes without a user is told how to get one.
        M::AuthStatus | M::Authenticate => Need::Nothing,
        // When they are applied: the caller may have become root a moment ago, on another member.
        M::AuthEnable
        | M::AuthDisable
        | M::UserAdd
        | M::UserDelete
        | M::UserChangePassword
        | M::UserGrantRole
        | M::UserRevokeRole
        | M::RoleAdd
        | M::RoleDelete
        | M::RoleGrantPermission
        | M::RoleRevokePermission => Need::Nothing,
        // After the proof that the answer is the newest. Some may be asked of oneself.
        M::UserGet | M::UserList | M::RoleGet | M::RoleList => Need::Nothing,
        // By the calls that locks and elections are made of, whose errors are passed on with another code.
        M::Campaign | M::Proclaim | M::Leader | M::Observe | M::Resign | M::Lock | M::Unlock => Need::Nothing,
        M::HealthCheck | M::HealthList | M::HealthWatch => Need::Nothing,
    }
}

/// Whether there is anything to check.
pub fn applies(method: Method) -> bool {
    need(method) != Need::Nothing
}

/// Whether the caller may call this at all.
pub async fn check(member: &Member, method: Method, call: &Call) -> Result<(), Error> {
    match need(method) {
        Need::Nothing => Ok(()),
        Need::User => member.somebody(call).await.map(|_| ()),
        Need::Root => member.root(call).await,
    }
}
