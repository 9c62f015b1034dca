//! Random requests of random callers, played to etcd and to what is tested: changes of users and roles among reads and writes
//! of keys. Every answer must be the same, with code and text.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use bytes::Bytes;
use keelson_api::authpb::{Permission, UserAddOptions};
use keelson_api::etcdserverpb::request_op::Request as Op;
use keelson_api::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthUserAddRequest,
    AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, Compare,
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use keelson_e2e::oracle::normal;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::common::{Caller, FLAGS, PASSWORD, ask_for_users, both, said};

const STEPS: usize = 2_000;
const SEEDS: std::ops::Range<u64> = 0..3;
/// There is none of the last name at first.
const USERS: &[&str] = &["root", "ann", "ben"];
const ROLES: &[&str] = &["root", "some", "other"];
const KEYS: &[&str] = &["a", "b", "c", "a\0", "z", "\0"];
const ENDS: &[&str] = &["", "", "\0", "b", "c", "a\0"];
const LEASES: &[i64] = &[0, 0, 0, 7, 8];

/// What is asked for.
#[derive(Clone, Debug)]
enum Act {
    SignIn(String),
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    GrantLease(LeaseGrantRequest),
    RevokeLease(LeaseRevokeRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Enable,
    Disable,
    Status,
    UserAdd(AuthUserAddRequest),
    UserDelete(AuthUserDeleteRequest),
    UserGet(AuthUserGetRequest),
    UserList,
    GrantRole(AuthUserGrantRoleRequest),
    RevokeRole(AuthUserRevokeRoleRequest),
    RoleAdd(AuthRoleAddRequest),
    RoleDelete(AuthRoleDeleteRequest),
    RoleGet(AuthRoleGetRequest),
    RoleList,
    Permit(AuthRoleGrantPermissionRequest),
    Forbid(AuthRoleRevokePermissionRequest),
}

struct Dice(StdRng);

impl Dice {
    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.0).expect("there is something to pick from")
    }

    fn text(&mut self, from: &[&'static str]) -> String {
        self.one_of(from).to_owned()
    }

    fn bytes(&mut self, from: &[&'static str]) -> Bytes {
        Bytes::from_static(self.one_of(from).as_bytes())
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// A key and an end. Who may read a range that can hold no key depends, in etcd, on how its tree of rights has grown.
    fn bounds(&mut self) -> (Bytes, Bytes) {
        let (key, end) = (self.bytes(KEYS), self.bytes(ENDS));
        if end[..] != b"\0"[..] && end <= key { (key, Bytes::new()) } else { (key, end) }
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.bounds();
        RangeRequest { key, range_end, serializable: self.chance(30), ..Default::default() }
    }

    fn put(&mut self) -> PutRequest {
        PutRequest { key: self.bytes(KEYS), lease: self.one_of(LEASES), prev_kv: self.chance(30), ..Default::default() }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.bounds();
        DeleteRangeRequest { key, range_end, prev_kv: self.chance(30) }
    }

    fn op(&mut self, depth: u32) -> RequestOp {
        let request = match self.0.random_range(0..10) {
            0..=3 => Op::RequestRange(self.range()),
            4..=6 => Op::RequestPut(self.put()),
            7 => Op::RequestDeleteRange(self.delete()),
            _ if depth == 0 => Op::RequestRange(self.range()),
            _ => Op::RequestTxn(self.txn(depth - 1)),
        };
        RequestOp { request: Some(request) }
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let compare = if self.chance(50) {
            let (key, range_end) = self.bounds();
            vec![Compare { key, range_end, ..Default::default() }]
        } else {
            Vec::new()
        };
        TxnRequest { compare, success: vec![self.op(depth)], failure: vec![self.op(depth)] }
    }

    fn act(&mut self) -> Act {
        match self.0.random_range(0..100) {
            0..=9 => Act::SignIn(self.text(USERS)),
            10..=27 => Act::Range(self.range()),
            28..=41 => Act::Put(self.put()),
            42..=48 => Act::Delete(self.delete()),
            49..=60 => Act::Txn(self.txn(2)),
            61 => Act::GrantLease(LeaseGrantRequest { id: self.one_of(&[7, 8]), ttl: 3600 }),
            62 => Act::RevokeLease(LeaseRevokeRequest { id: self.one_of(&[7, 8]) }),
            63..=64 => Act::TimeToLive(LeaseTimeToLiveRequest { id: self.one_of(&[7, 8]), keys: self.chance(80) }),
            65..=67 => Act::Enable,
            68 => Act::Disable,
            69 => Act::Status,
            70..=72 => {
                let name = self.text(USERS);
                // A root that cannot sign in would be the end of it.
                let no_password = name != "root" && self.chance(10);
                Act::UserAdd(AuthUserAddRequest {
                    name,
                    password: PASSWORD.into(),
                    options: Some(UserAddOptions { no_password }),
                    hashed_password: String::new(),
                })
            }
            73 => Act::UserDelete(AuthUserDeleteRequest { name: self.text(USERS) }),
            74..=75 => Act::UserGet(AuthUserGetRequest { name: self.text(USERS) }),
            76 => Act::UserList,
            77..=81 => Act::GrantRole(AuthUserGrantRoleRequest { user: self.text(USERS), role: self.text(ROLES) }),
            82 => Act::RevokeRole(AuthUserRevokeRoleRequest { name: self.text(USERS), role: self.text(ROLES) }),
            83..=85 => Act::RoleAdd(AuthRoleAddRequest { name: self.text(ROLES) }),
            86 => Act::RoleDelete(AuthRoleDeleteRequest { role: self.text(ROLES) }),
            87..=89 => Act::RoleGet(AuthRoleGetRequest { role: self.text(ROLES) }),
            90 => Act::RoleList,
            91..=96 => {
                let perm_type = self.0.random_range(0..3);
                let perm = Some(Permission { perm_type, key: self.bytes(KEYS), range_end: self.bytes(ENDS) });
                Act::Permit(AuthRoleGrantPermissionRequest { name: self.text(ROLES), perm })
            }
            _ => Act::Forbid(AuthRoleRevokePermissionRequest {
                role: self.text(ROLES),
                key: self.bytes(KEYS),
                range_end: self.bytes(ENDS),
            }),
        }
    }
}

/// One of the two servers, and the tokens that it gave.
struct Side {
    nobody: Caller,
    tokens: BTreeMap<String, String>,
    _server: Server,
}

/// The answer as text, without what no two servers can have in common.
macro_rules! answer {
    ($caller:ident . $client:ident . $method:ident ( $request:expr )) => {
        match $caller.$client().$method($caller.ask($request)).await {
            Ok(response) => {
                let mut response = response.into_inner();
                normal::header(&mut response.header);
                format!("{response:?}")
            }
            Err(refused) => said::<()>(Err(refused)),
        }
    };
}

impl Side {
    async fn start(program: Program) -> Result<Self> {
        // Nothing is crashed here, so nobody waits for disks.
        let server = Server::start(program, &[FLAGS, &["--unsafe-no-fsync"]].concat()).await?;
        let root = ask_for_users(&server).await?;
        let tokens = BTreeMap::from([("root".to_owned(), root.token().unwrap_or_default().to_owned())]);
        Ok(Self { nobody: Caller::nobody(&server).await?, tokens, _server: server })
    }

    async fn play(&mut self, who: &str, act: Act) -> String {
        let caller = self.tokens.get(who).map_or_else(|| self.nobody.clone(), |token| self.nobody.with(token));
        match act {
            Act::SignIn(name) => match caller.signed_in(&name, PASSWORD).await {
                Ok(signed_in) => {
                    self.tokens.insert(name, signed_in.token().unwrap_or_default().to_owned());
                    "signed in".to_owned()
                }
                Err(refused) => said::<()>(Err(refused)),
            },
            Act::Range(r) => answer!(caller.kv.range(r)),
            Act::Put(r) => answer!(caller.kv.put(r)),
            Act::Delete(r) => answer!(caller.kv.delete_range(r)),
            Act::Txn(r) => answer!(caller.kv.txn(r)),
            Act::GrantLease(r) => answer!(caller.lease.lease_grant(r)),
            Act::RevokeLease(r) => answer!(caller.lease.lease_revoke(r)),
            Act::TimeToLive(r) => match caller.lease().lease_time_to_live(caller.ask(r)).await {
                Ok(response) => {
                    let mut keys = response.into_inner().keys;
                    keys.sort();
                    format!("{keys:?}")
                }
                Err(refused) => said::<()>(Err(refused)),
            },
            Act::Enable => answer!(caller.auth.auth_enable(AuthEnableRequest {})),
            Act::Disable => answer!(caller.auth.auth_disable(AuthDisableRequest {})),
            Act::Status => answer!(caller.auth.auth_status(AuthStatusRequest {})),
            Act::UserAdd(r) => answer!(caller.auth.user_add(r)),
            Act::UserDelete(r) => answer!(caller.auth.user_delete(r)),
            Act::UserGet(r) => answer!(caller.auth.user_get(r)),
            Act::UserList => answer!(caller.auth.user_list(AuthUserListRequest {})),
            Act::GrantRole(r) => answer!(caller.auth.user_grant_role(r)),
            Act::RevokeRole(r) => answer!(caller.auth.user_revoke_role(r)),
            Act::RoleAdd(r) => answer!(caller.auth.role_add(r)),
            Act::RoleDelete(r) => answer!(caller.auth.role_delete(r)),
            Act::RoleGet(r) => answer!(caller.auth.role_get(r)),
            Act::RoleList => answer!(caller.auth.role_list(AuthRoleListRequest {})),
            Act::Permit(r) => answer!(caller.auth.role_grant_permission(r)),
            Act::Forbid(r) => answer!(caller.auth.role_revoke_permission(r)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_requests_of_random_callers_are_answered_as_etcd_answers_them() -> Result<()> {
    let [etcd, other] = both()?;
    for seed in SEEDS {
        let (mut etcd, mut other) = (Side::start(etcd).await?, Side::start(other).await?);
        let mut dice = Dice(StdRng::seed_from_u64(seed));
        let (mut played, mut denied, mut accepted) = (Vec::new(), 0, 0);
        for step in 0..STEPS {
            let who = dice.one_of(&["root", "root", "root", "ann", "ann", "ben", "nobody"]);
            let act = dice.act();
            played.push(format!("{who}: {act:?}"));
            let (expected, told) = futures::join!(etcd.play(who, act.clone()), other.play(who, act));
            if expected != told {
                let before = played[played.len().saturating_sub(20)..].join("\n");
                bail!("seed {seed}, step {step}:\n{before}\nexpected {expected}\ntold     {told}");
            }
            denied += usize::from(told.contains("permission denied"));
            accepted += usize::from(!told.contains("etcdserver: "));
        }
        println!("seed {seed}: {accepted} requests accepted, {denied} denied");
        if denied < STEPS / 50 || accepted < STEPS / 5 {
            bail!("seed {seed} tests little: {accepted} of {STEPS} accepted, {denied} denied");
        }
    }
    Ok(())
}
