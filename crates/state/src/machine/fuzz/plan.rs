//! Commands made from few keys, leases and members, so that they meet each other; and from any
//! numbers, so that some are absurd.

use bolero::TypeGenerator;
use bytes::Bytes;
use keelson_api::authpb::Permission;
use keelson_api::etcdserverpb::compare::TargetUnion;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::lease_checkpoint::Item;
use keelson_api::keelson::{
    ClusterVersion, Command, LeaseCheckpoint, LeaseGrant, LeaseRevoke, MemberAttributes, SignIn, UserAdd, UserPassword,
};

/// A number: mostly small, sometimes any.
#[derive(Clone, Debug, TypeGenerator)]
pub(super) enum Number {
    Small(i8),
    Tiny(bool),
    Any(i64),
}

impl Number {
    fn get(&self) -> i64 {
        match self {
            Self::Small(n) => i64::from(*n % 8),
            Self::Tiny(n) => i64::from(*n),
            Self::Any(n) => *n,
        }
    }
    fn enumeration(&self) -> i32 {
        i32::try_from(self.get()).unwrap_or(i32::MIN)
    }
}

/// One of a few keys, or the end of a range.
#[derive(Clone, Debug, TypeGenerator)]
pub(super) struct Key(u8);

impl Key {
    fn get(&self) -> Bytes {
        let keys: [&[u8]; 8] = [b"a", b"b", b"", b"\0", b"a\0", b"ab", b"\xff", b"c"];
        Bytes::from_static(keys[usize::from(self.0) % 8])
    }
}

#[derive(Clone, Debug, TypeGenerator)]
pub(super) struct AnyPut {
    key: Key,
    value: Vec<u8>,
    lease: Number,
    flags: u8,
}

#[derive(Clone, Debug, TypeGenerator)]
pub(super) struct AnyRange {
    key: Key,
    end: Key,
    revision: Number,
    limit: Number,
    order: Number,
    target: Number,
    filter: Number,
    flags: u8,
}

#[derive(Clone, Debug, TypeGenerator)]
pub(super) struct AnyCompare {
    key: Key,
    end: Key,
    result: Number,
    target: Number,
    number: Number,
    value: Option<u8>,
    union: u8,
}

#[derive(Clone, Debug, TypeGenerator)]
pub(super) enum Operation {
    Put(AnyPut),
    Range(AnyRange),
    Delete(Key, Key, bool),
    Txn(Vec<AnyCompare>, Vec<Operation>, Vec<Operation>),
    Nothing,
}

/// One of a few users and roles.
#[derive(Clone, Debug, TypeGenerator)]
pub(super) struct Name(u8);

impl Name {
    fn get(&self) -> String {
        ["root", "a", "b", ""][usize::from(self.0) % 4].to_owned()
    }
}

/// A change of users.
#[derive(Clone, Debug, TypeGenerator)]
pub(super) struct AnyChange {
    kind: u8,
    user: Name,
    role: Name,
    key: Key,
    end: Key,
    number: Number,
}

impl AnyChange {
    fn action(&self) -> Action {
        let (user, role, key, range_end) = (self.user.get(), self.role.get(), self.key.get(), self.end.get());
        match self.kind % 13 {
            0 => Action::AuthEnable(AuthEnableRequest {}),
            1 => Action::AuthDisable(AuthDisableRequest {}),
            2 => Action::SignIn(SignIn { name: user, prefix: "p".into(), auth_revision: self.number.get().cast_unsigned() }),
            3 => Action::UserAdd(UserAdd { name: user, password: key, no_password: role.is_empty() }),
            4 => Action::UserDelete(AuthUserDeleteRequest { name: user }),
            5 => Action::UserPassword(UserPassword { name: user, password: key }),
            6 | 7 => Action::UserGrant(AuthUserGrantRoleRequest { user, role }),
            8 => Action::UserRevoke(AuthUserRevokeRoleRequest { name: user, role }),
            9 => Action::RoleAdd(AuthRoleAddRequest { name: role }),
            10 => Action::RoleDelete(AuthRoleDeleteRequest { role }),
            11 => {
                let perm = Some(Permission { perm_type: self.number.enumeration(), key, range_end });
                Action::RoleGrant(AuthRoleGrantPermissionRequest { name: role, perm })
            }
            _ => Action::RoleRevoke(AuthRoleRevokePermissionRequest { role, key, range_end }),
        }
    }
}

/// One command.
#[derive(Clone, Debug, TypeGenerator)]
pub(super) enum Plan {
    Do(Operation),
    Compact(Number),
    Grant(Number, Number),
    Revoke(Number, Option<u8>),
    Checkpoint(Vec<(Number, Number)>),
    Alarm(Number, Number, Number),
    Member(u8, String),
    Version(String),
    Change(AnyChange),
    /// What comes from a user that was let in at some auth revision.
    DoAs(Name, Number, Operation),
    ChangeAs(Name, AnyChange),
    Nothing,
}

impl AnyPut {
    fn request(&self) -> PutRequest {
        let bit = |n: u8| self.flags >> n & 1 == 1;
        let (ignore_value, ignore_lease) = (bit(0) && bit(1), bit(2) && bit(3));
        PutRequest {
            key: self.key.get(),
            value: if ignore_value && bit(4) { Bytes::new() } else { self.value.clone().into() },
            lease: if ignore_lease && bit(5) { 0 } else { self.lease.get() },
            prev_kv: bit(6),
            ignore_value,
            ignore_lease,
        }
    }
}

impl AnyRange {
    pub(super) fn request(&self) -> RangeRequest {
        let bit = |n: u8| self.flags >> n & 1 == 1;
        RangeRequest {
            key: self.key.get(),
            range_end: self.end.get(),
            limit: self.limit.get(),
            revision: self.revision.get(),
            sort_order: self.order.enumeration(),
            sort_target: self.target.enumeration(),
            serializable: bit(0),
            keys_only: bit(1),
            count_only: bit(2),
            min_mod_revision: if bit(3) { self.filter.get() } else { 0 },
            max_mod_revision: if bit(4) { self.filter.get() } else { 0 },
            min_create_revision: if bit(5) { self.filter.get() } else { 0 },
            max_create_revision: if bit(6) { self.filter.get() } else { 0 },
        }
    }
}

impl AnyCompare {
    fn request(&self) -> Compare {
        let number = self.number.get();
        let target_union = match self.union % 6 {
            0 => None,
            1 => Some(TargetUnion::Version(number)),
            2 => Some(TargetUnion::CreateRevision(number)),
            3 => Some(TargetUnion::ModRevision(number)),
            4 => Some(TargetUnion::Lease(number)),
            _ => Some(TargetUnion::Value(self.value.map_or_else(Bytes::new, |v| vec![v].into()))),
        };
        Compare {
            result: self.result.enumeration(),
            target: self.target.enumeration(),
            key: self.key.get(),
            range_end: self.end.get(),
            target_union,
        }
    }
}

impl Operation {
    fn request(&self) -> Option<Request> {
        Some(match self {
            Self::Put(put) => Request::RequestPut(put.request()),
            Self::Range(range) => Request::RequestRange(range.request()),
            Self::Delete(key, end, prev_kv) => {
                Request::RequestDeleteRange(DeleteRangeRequest { key: key.get(), range_end: end.get(), prev_kv: *prev_kv })
            }
            Self::Txn(compares, success, failure) => {
                let operations = |ops: &Vec<Self>| ops.iter().map(|op| RequestOp { request: op.request() }).collect();
                Request::RequestTxn(TxnRequest {
                    compare: compares.iter().map(AnyCompare::request).collect(),
                    success: operations(success),
                    failure: operations(failure),
                })
            }
            Self::Nothing => return None,
        })
    }
}

impl Plan {
    fn caller(&self) -> (String, u64) {
        match self {
            Self::DoAs(name, revision, _) => (name.get(), revision.get().cast_unsigned()),
            Self::ChangeAs(name, _) => (name.get(), 1),
            _ => (String::new(), 0),
        }
    }

    pub(super) fn command(&self) -> Command {
        let action = match self {
            Self::Change(change) | Self::ChangeAs(_, change) => Some(change.action()),
            Self::Do(operation) | Self::DoAs(_, _, operation) => operation.request().map(|request| match request {
                Request::RequestPut(r) => Action::Put(r),
                Request::RequestDeleteRange(r) => Action::DeleteRange(r),
                Request::RequestTxn(r) => Action::Txn(r),
                Request::RequestRange(r) => {
                    let success = vec![RequestOp { request: Some(Request::RequestRange(r)) }];
                    Action::Txn(TxnRequest { success, ..TxnRequest::default() })
                }
            }),
            Self::Compact(revision) => Some(Action::Compact(CompactionRequest { revision: revision.get(), physical: false })),
            Self::Grant(id, ttl) => Some(Action::LeaseGrant(LeaseGrant { id: id.get(), ttl: ttl.get() })),
            Self::Revoke(id, term) => {
                Some(Action::LeaseRevoke(LeaseRevoke { id: id.get(), expired_in_term: term.map_or(0, |t| u64::from(t % 5)) }))
            }
            Self::Checkpoint(items) => {
                let item = |(id, left): &(Number, Number)| Item { id: id.get(), remaining_ttl: left.get() };
                Some(Action::LeaseCheckpoint(LeaseCheckpoint { items: items.iter().map(item).collect() }))
            }
            Self::Alarm(action, alarm, member) => Some(Action::Alarm(AlarmRequest {
                action: action.enumeration(),
                member_id: member.get().cast_unsigned(),
                alarm: alarm.enumeration(),
            })),
            Self::Member(id, name) => Some(Action::MemberAttributes(MemberAttributes {
                id: u64::from(*id),
                name: name.clone(),
                ..MemberAttributes::default()
            })),
            Self::Version(version) => Some(Action::ClusterVersion(ClusterVersion { version: version.clone(), format: 0 })),
            Self::Nothing => None,
        };
        let (user, auth_revision) = self.caller();
        Command { action, user, auth_revision, ..Command::default() }
    }
}
