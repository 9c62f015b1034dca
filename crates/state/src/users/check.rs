//! Whether somebody may do what it asks for. The same rules hold where a request comes in and, for what goes through the
//! log, where it is applied: what was taken from somebody meanwhile counts.

use bytes::Bytes;
use keelson_api::Error;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

use super::{Caller, ROOT, Right, Users};
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
            Some(known) if known.has(ROOT) || known.rights.include(right, key, range_end) => Ok(()),
            _ => Err(Error::PermissionDenied),
        }
    }

    /// Whether the caller may do this with each of some keys. Nobody asks root at which revision it was let in.
    pub fn check_keys<'a>(
        &self,
        caller: Caller<'_>,
        right: Right,
        mut keys: impl Iterator<Item = &'a Bytes>,
    ) -> Result<(), Error> {
        if self.check_root(caller).is_ok() {
            return Ok(());
        }
        keys.try_for_each(|key| self.check(caller, right, key, &[]))
    }

    /// Whoever attaches a key to a lease must be able to revoke it, with all keys that it has.
    pub(crate) fn check_put(&self, leases: &Leases, caller: Caller<'_>, r: &PutRequest) -> Result<(), Error> {
        self.check(caller, Right::Write, &r.key, &[])?;
        if let Some(lease) = leases.get(r.lease) {
            self.check_keys(caller, Right::Write, lease.keys.iter())?;
        }
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
