//! Applies commands. One [`Machine`] owns the writer; everybody else reads through [`Shared`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use keelson_api::etcdserverpb::{
    AlarmMember, AlarmResponse, AlarmType, CompactionResponse, DeleteRangeResponse, PutResponse, TxnRequest, TxnResponse,
};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::{AppliedRow, Command};
use keelson_api::{Error, format};
use keelson_mvcc::{Backend, CompactError, Cursor, Event, ReadError, StorageError, Store, Table, WriteBatch, Writer};
use parking_lot::{RwLock, RwLockReadGuard};
use prost::Message;

use crate::alarm::Alarms;
use crate::lease::{Lease, Leases, MAX_TTL};
use crate::members::{Member, Members};
use crate::txn::{self, Failure};
use crate::users::{Caller, Right, TokenChange, Users};
use crate::validate::quota_cost_txn;

/// Key of the row that holds the applied position, in the meta table.
pub const APPLIED: &[u8] = b"applied";

/// Where the state stands in the log, with the membership in force there.
pub type Position = AppliedRow;

/// What a command answers. Headers carry the revision only; the rest is the answering member's.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Reply {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    LeaseGrant {
        id: i64,
        ttl: i64,
        revision: i64,
    },
    LeaseRevoke {
        revision: i64,
    },
    Alarm(AlarmResponse),
    /// Users or roles were changed.
    Users {
        revision: i64,
    },
    SignIn {
        token: String,
        revision: i64,
    },
    /// Nothing to say.
    Done,
}

impl Reply {
    /// How long the answer is to a request about keys; nothing for others.
    #[must_use]
    pub fn encoded_len(&self) -> Option<usize> {
        match self {
            Self::Put(response) => Some(response.encoded_len()),
            Self::DeleteRange(response) => Some(response.encoded_len()),
            Self::Txn(response) => Some(response.encoded_len()),
            Self::Compact(response) => Some(response.encoded_len()),
            Self::Alarm(response) => Some(response.encoded_len()),
            Self::LeaseGrant { .. } | Self::LeaseRevoke { .. } | Self::Users { .. } | Self::SignIn { .. } | Self::Done => None,
        }
    }
}

/// All changes of one revision.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The revision.
    pub revision: i64,
    /// Its changes in order.
    pub events: Vec<Event>,
}

/// What became of a batch of commands beyond the replies.
#[derive(Debug, Default)]
pub struct Applied {
    /// Revisions in order.
    pub transactions: Vec<Transaction>,
    /// Leases revoked.
    pub revoked: Vec<i64>,
    /// Leases granted (id, TTL in seconds) that were not revoked after that: one of these may have its id from one of those.
    pub granted: Vec<(i64, i64)>,
    /// A compaction was accepted.
    pub compacted: bool,
    /// The member list is another one.
    pub members_changed: bool,
    /// What became of tokens, in order.
    pub tokens: Vec<TokenChange>,
}

/// The replicated state for readers.
pub struct Shared<B> {
    /// Keys and their history.
    pub store: Store<B>,
    leases: RwLock<Leases>,
    alarms: RwLock<Alarms>,
    members: RwLock<Members>,
    users: RwLock<Users>,
    /// Whether users are asked for, for those who ask it all the time.
    auth_is_on: AtomicBool,
}

impl<B> Shared<B> {
    /// One lease.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<Lease> {
        self.leases.read().get(id).cloned()
    }

    /// Granted TTL and last checkpoint of each lease.
    #[must_use]
    pub fn lease_ttls(&self) -> Vec<(i64, i64, i64)> {
        self.leases.read().ids().map(|(id, l)| (id, l.ttl, l.remaining_ttl)).collect()
    }

    /// Whether an alarm of this kind is raised anywhere.
    #[must_use]
    pub fn is_alarmed(&self, kind: AlarmType) -> bool {
        self.alarms.read().is_raised(kind)
    }

    /// All raised alarms.
    #[must_use]
    pub fn alarms(&self) -> Vec<AlarmMember> {
        self.alarms.read().list()
    }

    /// All members.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.members.read().list()
    }

    /// One member.
    #[must_use]
    pub fn member(&self, id: u64) -> Option<Member> {
        self.members.read().get(id).cloned()
    }

    /// Whether a member of this id was there once and has been removed.
    #[must_use]
    pub fn is_removed(&self, id: u64) -> bool {
        self.members.read().is_removed(id)
    }

    /// Whether users are asked for at all. While they are not, this is all that it costs.
    #[must_use]
    pub fn auth_is_on(&self) -> bool {
        self.auth_is_on.load(Ordering::Relaxed)
    }

    /// Users and roles.
    pub fn users(&self) -> RwLockReadGuard<'_, Users> {
        self.users.read()
    }

    /// Whether the caller may do all that is in a transaction.
    pub fn check_txn(&self, caller: Caller<'_>, r: &TxnRequest) -> Result<(), Error> {
        let leases = self.leases.read();
        self.users.read().check_txn(&leases, caller, r)
    }

    /// Whether the caller may do this with all keys of a lease, if there is one.
    pub fn check_lease(&self, caller: Caller<'_>, right: Right, id: i64) -> Result<(), Error> {
        let leases = self.leases.read();
        self.users.read().check_lease(&leases, caller, right, id)
    }

    /// The version all members can speak, empty until it was agreed on.
    #[must_use]
    pub fn cluster_version(&self) -> String {
        self.members.read().version().to_owned()
    }

    /// The cluster's format: all members understand it, and what they write for each other is of no newer one.
    #[must_use]
    pub fn format(&self) -> u32 {
        self.members.read().format()
    }

    /// The format that the cluster's may be raised to, if all members and this process understand a newer one.
    #[must_use]
    pub fn next_format(&self) -> Option<u32> {
        let members = self.members.read();
        let next = members.understood_by_all().min(format::newest());
        (next > members.format()).then_some(next)
    }
}

/// Applies commands in log order.
pub struct Machine<B: Backend> {
    writer: Writer<B>,
    shared: Arc<Shared<B>>,
    applied: Applied,
}

impl<B: Backend> Machine<B> {
    /// Opens the state in `backend` and says how far it had got.
    pub fn open(backend: B) -> Result<(Self, Position), StorageError> {
        let store = Store::open(backend)?;
        let mut leases = Leases::default();
        let mut alarms = Alarms::default();
        let mut members = Members::default();
        let mut users = Users::default();
        let mut position = Position::default();
        let mut cursor = store.backend().cursor(Table::Meta, None);
        cursor.seek(&[])?;
        while let Some((key, value)) = cursor.row() {
            if key == APPLIED {
                position = Position::decode(value)
                    .map_err(|_| StorageError("the applied position cannot be decoded: the state store is damaged".into()))?;
            } else if !leases.load_row(key, value)? && !alarms.load_row(key)? && !users.load_row(key, value)? {
                members.load_row(key, value)?;
            }
            cursor.step()?;
        }
        drop(cursor);
        users.settle();
        let writer = Writer::new(&store);
        writer.for_each(&keelson_mvcc::KeyRange::Span(Vec::new(), None), |key, meta| {
            if meta.lease != 0 {
                leases.attach(meta.lease, Bytes::copy_from_slice(key));
            }
        });
        let shared = Arc::new(Shared {
            store,
            leases: RwLock::new(leases),
            alarms: RwLock::new(alarms),
            members: RwLock::new(members),
            auth_is_on: AtomicBool::new(users.is_on()),
            users: RwLock::new(users),
        });
        Ok((Self { writer, shared, applied: Applied::default() }, position))
    }

    /// The state for readers.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared<B>> {
        &self.shared
    }

    /// Bytes waiting to be committed.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.writer.pending_bytes()
    }

    /// Applies one command of the log entry with this term and index. The outer error means that the store itself failed.
    pub fn apply(&mut self, command: &Command, term: u64, index: u64) -> Result<Result<Reply, Error>, StorageError> {
        let caller = Caller { user: &command.user, revision: command.auth_revision };
        let result = match &command.action {
            Some(action) => self.act(action, caller, term, index),
            None => Ok(Reply::Done),
        };
        let events = self.writer.finish();
        if !events.is_empty() {
            self.shared.leases.write().follow(&events);
            self.applied.transactions.push(Transaction { revision: self.writer.revision(), events });
        }
        match result {
            Ok(mut reply) => {
                self.set_revision(&mut reply);
                Ok(Ok(reply))
            }
            Err(Failure::Refused(e)) => Ok(Err(e)),
            Err(Failure::Read(ReadError::Storage(e))) => Err(e),
            Err(Failure::Read(other)) => Err(StorageError(format!("apply: {other}"))),
        }
    }

    /// Writes what was applied so far, together with the position it corresponds to, and publishes it.
    pub fn commit(&mut self, position: &Position) -> Result<Applied, StorageError> {
        self.writer.batch().put(Table::Meta, APPLIED, &position.encode_to_vec());
        self.writer.commit()?;
        Ok(std::mem::take(&mut self.applied))
    }

    fn set_revision(&self, reply: &mut Reply) {
        let now = self.writer.revision();
        match reply {
            Reply::Txn(r) => r.header = txn::header(now),
            Reply::LeaseGrant { revision, .. }
            | Reply::LeaseRevoke { revision }
            | Reply::Users { revision }
            | Reply::SignIn { revision, .. } => *revision = now,
            Reply::Compact(r) => r.header = txn::header(now),
            Reply::Alarm(r) => r.header = txn::header(now),
            Reply::Put(_) | Reply::DeleteRange(_) | Reply::Done => {}
        }
    }

    fn refuse_when_alarmed(&self, action: &Action) -> Result<(), Failure> {
        let alarms = self.shared.alarms.read();
        let writes = matches!(
            action,
            Action::Put(_)
                | Action::DeleteRange(_)
                | Action::Txn(_)
                | Action::Compact(_)
                | Action::LeaseGrant(_)
                | Action::LeaseRevoke(_)
        );
        if writes && alarms.is_raised(AlarmType::Corrupt) {
            return Err(Failure::Refused(Error::Corrupt));
        }
        let grows = match action {
            Action::Put(_) | Action::LeaseGrant(_) => true,
            Action::Txn(r) => quota_cost_txn(r) > 0,
            _ => false,
        };
        if grows && alarms.is_raised(AlarmType::Nospace) {
            return Err(Failure::Refused(Error::NoSpace));
        }
        Ok(())
    }

    fn act(&mut self, action: &Action, caller: Caller<'_>, term: u64, index: u64) -> Result<Reply, Failure> {
        self.refuse_when_alarmed(action)?;
        if self.shared.auth_is_on() {
            self.check(action, caller).map_err(Failure::Refused)?;
        }
        match action {
            Action::Put(r) => {
                txn::check_put(&self.writer, &self.shared.leases.read(), r)?;
                Ok(Reply::Put(txn::put(&mut self.writer, r)?))
            }
            Action::DeleteRange(r) => Ok(Reply::DeleteRange(txn::delete_range(&mut self.writer, r)?)),
            Action::Txn(r) => {
                let shared = self.shared.clone();
                let response = txn::write_txn(&mut self.writer, &shared.leases.read(), r)?;
                Ok(Reply::Txn(response))
            }
            Action::Compact(r) => match self.writer.compact(r.revision) {
                Ok(()) => {
                    self.applied.compacted = true;
                    Ok(Reply::Compact(CompactionResponse::default()))
                }
                Err(CompactError::Compacted) => Err(Failure::Refused(Error::Compacted)),
                Err(CompactError::Future) => Err(Failure::Refused(Error::FutureRevision)),
            },
            Action::LeaseGrant(r) => self.grant(r.id, r.ttl),
            Action::LeaseRevoke(r) => self.revoke(r.id, r.expired_in_term, term),
            Action::LeaseCheckpoint(r) => {
                let mut leases = self.shared.leases.write();
                for item in &r.items {
                    leases.checkpoint(item.id, item.remaining_ttl, self.writer.batch());
                }
                Ok(Reply::Done)
            }
            Action::Alarm(r) => Ok(Reply::Alarm(self.shared.alarms.write().apply(r, self.writer.batch()))),
            Action::FirstMembers(_)
            | Action::MemberAdd(_)
            | Action::MemberRemove(_)
            | Action::MemberUpdate(_)
            | Action::MemberPromote(_)
            | Action::OnlyMember(_)
            | Action::MemberAttributes(_) => self.change_members(action),
            Action::AuthEnable(_)
            | Action::AuthDisable(_)
            | Action::SignIn(_)
            | Action::UserAdd(_)
            | Action::UserDelete(_)
            | Action::UserPassword(_)
            | Action::UserGrant(_)
            | Action::UserRevoke(_)
            | Action::RoleAdd(_)
            | Action::RoleDelete(_)
            | Action::RoleGrant(_)
            | Action::RoleRevoke(_) => self.change_users(action, index).map_err(Failure::Refused),
            Action::ClusterVersion(v) => {
                let mut members = self.shared.members.write();
                if members.rises(v) {
                    // What comes after it may be of that format. This member was started with an older build after it had
                    // said that it understands.
                    format::check("the cluster", v.format).map_err(|e| ReadError::Storage(StorageError(e.to_string())))?;
                }
                members.agree(v, self.writer.batch());
                self.applied.members_changed = true;
                Ok(Reply::Done)
            }
        }
    }

    fn change_members(&mut self, action: &Action) -> Result<Reply, Failure> {
        let mut members = self.shared.members.write();
        let batch = self.writer.batch();
        let changed = match action {
            Action::FirstMembers(r) => {
                members.begin(&r.members, batch);
                Ok(())
            }
            Action::MemberAdd(r) => members.add(r, batch),
            Action::MemberRemove(r) => members.remove(r.id, batch),
            Action::MemberUpdate(r) => members.update(r.id, &r.peer_urls, batch),
            Action::MemberPromote(r) => members.promote(r.id, batch),
            Action::OnlyMember(r) => members.leave_only(r, batch),
            Action::MemberAttributes(m) => members.publish(m, batch),
            _ => Ok(()),
        };
        changed.map_err(Failure::Refused)?;
        self.applied.members_changed = true;
        Ok(Reply::Done)
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<Reply, Failure> {
        if ttl > MAX_TTL {
            return Err(Failure::Refused(Error::LeaseTtlTooLarge));
        }
        let mut leases = self.shared.leases.write();
        if leases.get(id).is_some() {
            return Err(Failure::Refused(Error::LeaseExists));
        }
        leases.grant(id, ttl, self.writer.batch());
        self.applied.granted.push((id, ttl));
        Ok(Reply::LeaseGrant { id, ttl, revision: 0 })
    }

    fn revoke(&mut self, id: i64, expired_in_term: u64, term: u64) -> Result<Reply, Failure> {
        // An expiry decided under an older leader may have been overtaken by a renewal.
        if expired_in_term != 0 && expired_in_term != term {
            return Ok(Reply::Done);
        }
        let lease = self.shared.leases.write().revoke(id, self.writer.batch());
        let Some(lease) = lease else { return Err(Failure::Refused(Error::LeaseNotFound)) };
        for key in lease.keys {
            self.writer.delete(key);
        }
        self.applied.granted.retain(|(granted, _)| *granted != id);
        self.applied.revoked.push(id);
        Ok(Reply::LeaseRevoke { revision: 0 })
    }
}

mod auth;
#[cfg(test)]
mod fuzz;
