//! Whether somebody may do what it asks for. The same rules hold where a request comes in and, for what goes through the
//! log, where it is applied: what was taken from somebody meanwhile counts.

use std::collections::BTreeSet;

use bytes::Bytes;
use keelson_api::Error;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

use super::{Caller, ROOT, Right, Rights, Users};
use crate::lease::Leases;

impl Users {
    /// Whether the caller may manage the cluster and its users. The auth revision does not matter for that.
    pub fn check_root(&self, caller: Caller<'_>) -> Result<(), Error> {
        if !self.is_on {
            return Ok(());
        }
        if caller.user.is_empty() {
            return Err(Error::UserEmpty);
        }
        if self.user(caller.user)?.has(ROOT) { Ok(()) } else { Err(Error::PermissionDenied) }
    }

    /// Whether the caller may do this with all of a range, given as requests give it.
    pub fn check(&self, caller: Caller<'_>, right: Right, key: &[u8], range_end: &[u8]) -> Result<(), Error> {
        self.check_rights(caller, |rights| rights.include(right, key, range_end))
    }

    /// Whether the caller may do this with each of some keys. Nobody asks root at which revision it was let in, and nobody
    /// anything who asks for no key.
    pub fn check_keys(&self, caller: Caller<'_>, right: Right, keys: &BTreeSet<Bytes>) -> Result<(), Error> {
        if keys.is_empty() || self.check_root(caller).is_ok() {
            return Ok(());
        }
        self.check_rights(caller, |rights| rights.include_all(right, keys))
    }

    /// The same for the keys of a lease, if there is one.
    pub(crate) fn check_lease(&self, leases: &Leases, caller: Caller<'_>, right: Right, id: i64) -> Result<(), Error> {
        leases.get(id).map_or(Ok(()), |lease| self.check_keys(caller, right, &lease.keys))
    }

    fn check_rights(&self, caller: Caller<'_>, suffice: impl FnOnce(&Rights) -> bool) -> Result<(), Error> {
        if !self.is_on {
            return Ok(());
        }
        if caller.revision == 0 {
            return Err(Error::UserEmpty);
        }
        if caller.revision < self.revision {
            return Err(Error::AuthOldRevision);
        }
        match self.by_name.get(caller.user) {
            Some(known) if known.has(ROOT) || suffice(&known.rights) => Ok(()),
            _ => Err(Error::PermissionDenied),
        }
    }

    /// Whoever attaches a key to a lease must be able to revoke it, with all keys that it has.
    pub(crate) fn check_put(&self, leases: &Leases, caller: Caller<'_>, r: &PutRequest) -> Result<(), Error> {
        self.check(caller, Right::Write, &r.key, &[])?;
        self.check_lease(leases, caller, Right::Write, r.lease)?;
        if r.prev_kv { self.check(caller, Right::Read, &r.key, &[]) } else { Ok(()) }
    }

    pub(crate) fn check_delete(&self, caller: Caller<'_>, r: &DeleteRangeRequest) -> Result<(), Error> {
        self.check(caller, Right::Write, &r.key, &r.range_end)?;
        if r.prev_kv { self.check(caller, Right::Read, &r.key, &r.range_end) } else { Ok(()) }
    }

    /// Conditions are reads, and both branches count, at every depth: which one is taken would tell, too.
    pub(crate) fn check_txn(&self, leases: &Leases, caller: Caller<'_>, r: &TxnRequest) -> Result<(), Error> {
        r.compare.iter().try_for_each(|c| self.check(caller, Right::Read, &c.key, &c.range_end))?;
        r.success.iter().chain(&r.failure).try_for_each(|op| self.check_op(leases, caller, op))
    }

    fn check_op(&self, leases: &Leases, caller: Caller<'_>, op: &RequestOp) -> Result<(), Error> {
        match &op.request {
            Some(Request::RequestRange(r)) => self.check(caller, Right::Read, &r.key, &r.range_end),
            Some(Request::RequestPut(r)) => self.check_put(leases, caller, r),
            Some(Request::RequestDeleteRange(r)) => self.check_delete(caller, r),
            Some(Request::RequestTxn(r)) => self.check_txn(leases, caller, r),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
