//! What commands print. Each format is one file that knows how every answer looks in it.

mod fields;
mod json;
mod json_value;
mod protobuf;
mod rows;
mod simple;
mod table;

use std::io::{self, ErrorKind, Write};

use keelson_api::etcdserverpb::*;

use crate::exit::{BAD_FEATURE, Failure, NOBODY_READS};

/// An answer, with what the printed text needs besides.
#[derive(Clone, Debug)]
pub enum Reply {
    Get {
        response: RangeResponse,
        values_only: bool,
    },
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Watch(WatchResponse),
    Grant(LeaseGrantResponse),
    Revoke(i64, LeaseRevokeResponse),
    KeepAlive(LeaseKeepAliveResponse),
    TimeToLive {
        response: LeaseTimeToLiveResponse,
        keys: bool,
    },
    Leases(LeaseLeasesResponse),
    MemberAdd(MemberAddResponse),
    MemberRemove(u64, MemberRemoveResponse),
    MemberUpdate(u64, MemberUpdateResponse),
    MemberPromote(u64, MemberPromoteResponse),
    MemberList(MemberListResponse),
    Health(Vec<Health>),
    Status(Vec<(String, StatusResponse)>),
    HashKv(Vec<(String, HashKvResponse)>),
    MoveLeader {
        from: u64,
        to: u64,
        response: MoveLeaderResponse,
    },
    /// What is in the file of a snapshot.
    Snapshot(keelson_snapshot::Status),
    /// What is in a store.
    Backups(Vec<BackupRow>),
    /// The first is what was asked for: validate, enable or cancel.
    Downgrade(&'static str, DowngradeResponse),
    Alarms(AlarmResponse),
    AuthStatus(AuthStatusResponse),
    RoleAdd(String, AuthRoleAddResponse),
    RoleGet(String, AuthRoleGetResponse),
    RoleList(AuthRoleListResponse),
    RoleDelete(String, AuthRoleDeleteResponse),
    RoleGrant(String, AuthRoleGrantPermissionResponse),
    RoleRevoke {
        role: String,
        key: Vec<u8>,
        end: Vec<u8>,
        response: AuthRoleRevokePermissionResponse,
    },
    UserAdd(String, AuthUserAddResponse),
    UserGet(String, AuthUserGetResponse),
    UserList(AuthUserListResponse),
    UserDelete(String, AuthUserDeleteResponse),
    UserPassword(AuthUserChangePasswordResponse),
    UserGrant {
        user: String,
        role: String,
        response: AuthUserGrantRoleResponse,
    },
    UserRevoke {
        user: String,
        role: String,
        response: AuthUserRevokeRoleResponse,
    },
}

/// How one endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub endpoint: String,
    pub healthy: bool,
    pub took: String,
    pub error: String,
}

/// A backup, and what it can be restored to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupRow {
    pub id: String,
    /// `complete`, `continuous`, `unfinished` or `unreadable`.
    pub state: &'static str,
    /// Nothing but this revision and this time, if it is not continuous.
    pub first_revision: i64,
    pub last_revision: i64,
    pub first_time: String,
    pub last_time: String,
    pub cluster_id: String,
    pub keys: u64,
    pub size: u64,
    /// What is wrong with it.
    pub trouble: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Format {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "simple" => Self::Simple,
            "fields" => Self::Fields,
            "json" => Self::Json,
            "protobuf" => Self::Protobuf,
            "table" => Self::Table,
            _ => return None,
        })
    }

    pub fn print(self, reply: &Reply, hex: bool) -> Result<(), Failure> {
        if let (Self::Simple, Reply::Health(endpoints)) = (self, reply) {
            simple::sick(endpoints).iter().for_each(|line| eprintln!("{line}"));
        }
        out(&self.render(reply, hex)?)
    }

    /// The bytes, or that there are none in this format.
    fn render(self, reply: &Reply, hex: bool) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Simple => Ok(simple::render(reply, hex)),
            Self::Json => Ok(json::render(reply, hex)),
            Self::Fields => fields::render(reply, hex).ok_or_else(|| unsupported("fields")),
            Self::Table => table::render(reply).ok_or_else(|| unsupported("table")),
            Self::Protobuf => protobuf::render(reply),
        }
    }
}

fn unsupported(format: &str) -> Failure {
    Failure::new(BAD_FEATURE, format!("{format} not supported as output format"))
}

/// To stdout, at once: who pipes a watch somewhere waits for its lines.
pub fn out(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failure::told(NOBODY_READS),
        _ => Failure::error(format!("the output cannot be written: {e}")),
    })
}

/// A line of text.
pub fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    out(format!("{}\n", text.as_ref()).as_bytes())
}

/// An id of a lease as `%016x`. Clients may choose any number, and a negative one has its sign in front of its digits.
pub fn lease_id(id: i64) -> String {
    if id < 0 { format!("-{:015x}", id.unsigned_abs()) } else { format!("{id:016x}") }
}

/// An id as `%x`, or as a number.
fn id(id: u64, hex: bool) -> String {
    if hex { format!("{id:x}") } else { id.to_string() }
}
