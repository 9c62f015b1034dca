//! Which path is which call: those of etcd, where a few calls have a second one.

use crate::services::Method;

/// The call that a path stands for.
pub fn of(path: &str) -> Option<Method> {
    let method = match path.strip_prefix("/v3/")? {
        "kv/range" => Method::Range,
        "kv/put" => Method::Put,
        "kv/deleterange" => Method::DeleteRange,
        "kv/txn" => Method::Txn,
        "kv/compaction" => Method::Compact,
        "watch" => Method::Watch,
        "lease/grant" => Method::LeaseGrant,
        "lease/revoke" | "kv/lease/revoke" => Method::LeaseRevoke,
        "lease/keepalive" => Method::LeaseKeepAlive,
        "lease/timetolive" | "kv/lease/timetolive" => Method::LeaseTimeToLive,
        "lease/leases" | "kv/lease/leases" => Method::LeaseLeases,
        "cluster/member/add" => Method::MemberAdd,
        "cluster/member/remove" => Method::MemberRemove,
        "cluster/member/update" => Method::MemberUpdate,
        "cluster/member/list" => Method::MemberList,
        "cluster/member/promote" => Method::MemberPromote,
        "maintenance/alarm" => Method::Alarm,
        "maintenance/status" => Method::Status,
        "maintenance/defragment" => Method::Defragment,
        "maintenance/hash" => Method::Hash,
        "maintenance/hashkv" => Method::HashKv,
        "maintenance/snapshot" => Method::Snapshot,
        "maintenance/transfer-leadership" => Method::MoveLeader,
        "maintenance/downgrade" => Method::Downgrade,
        "auth/enable" => Method::AuthEnable,
        "auth/disable" => Method::AuthDisable,
        "auth/status" => Method::AuthStatus,
        "auth/authenticate" => Method::Authenticate,
        "auth/user/add" => Method::UserAdd,
        "auth/user/get" => Method::UserGet,
        "auth/user/list" => Method::UserList,
        "auth/user/delete" => Method::UserDelete,
        "auth/user/changepw" => Method::UserChangePassword,
        "auth/user/grant" => Method::UserGrantRole,
        "auth/user/revoke" => Method::UserRevokeRole,
        "auth/role/add" => Method::RoleAdd,
        "auth/role/get" => Method::RoleGet,
        "auth/role/list" => Method::RoleList,
        "auth/role/delete" => Method::RoleDelete,
        "auth/role/grant" => Method::RoleGrantPermission,
        "auth/role/revoke" => Method::RoleRevokePermission,
        "election/campaign" => Method::Campaign,
        "election/proclaim" => Method::Proclaim,
        "election/leader" => Method::Leader,
        "election/observe" => Method::Observe,
        "election/resign" => Method::Resign,
        "lock/lock" => Method::Lock,
        "lock/unlock" => Method::Unlock,
        _ => return None,
    };
    Some(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_but_those_that_etcd_leaves_out_has_a_path() {
        let (source, _) = include_str!("routes.rs").split_once("mod tests").expect("they are below");
        let routed = |m: &Method| source.contains(&format!("Method::{m:?},"));
        let left_out: Vec<_> = Method::ALL.iter().filter(|m| !routed(m)).collect();
        assert_eq!(left_out, [&Method::RangeStream, &Method::HealthCheck, &Method::HealthList, &Method::HealthWatch]);
        assert_eq!(of("/v3/kv/range"), Some(Method::Range));
        assert_eq!(of("/v3/kv/lease/leases"), Some(Method::LeaseLeases));
        assert_eq!(of("/v3/kv/range/"), None);
        assert_eq!(of("/kv/range"), None);
    }
}
