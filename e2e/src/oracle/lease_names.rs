//! Leases whose id the server picks get a name that is the same on both sides: the n-th such lease
//! of a run is `CHOSEN + n` in steps and in outcomes, whatever the server called it.

use std::collections::HashMap;

use keelson_api::etcdserverpb::compare::TargetUnion;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

/// Above every fixed id that the generator uses, so that order compares mean the same everywhere:
/// ids picked by a server are 63-bit random numbers.
pub const CHOSEN: i64 = 0x4000_0000_0000_0000;

#[derive(Debug, Default)]
pub struct LeaseNames {
    ids: Vec<i64>,
    names: HashMap<i64, i64>,
}

impl LeaseNames {
    pub fn add(&mut self, id: i64) {
        self.names.insert(id, CHOSEN + self.ids.len() as i64);
        self.ids.push(id);
    }

    /// The server's id for a name; anything else is an id already.
    pub fn id(&self, name: i64) -> i64 {
        let index = usize::try_from(name.wrapping_sub(CHOSEN)).ok();
        index.and_then(|index| self.ids.get(index)).copied().unwrap_or(name)
    }

    /// The name of a server's id; ids given by the client are their own names.
    pub fn name(&self, id: i64) -> i64 {
        self.names.get(&id).copied().unwrap_or(id)
    }

    pub fn put(&self, mut request: PutRequest) -> PutRequest {
        request.lease = self.id(request.lease);
        request
    }

    pub fn txn(&self, mut request: TxnRequest) -> TxnRequest {
        for compare in &mut request.compare {
            if let Some(TargetUnion::Lease(lease)) = &mut compare.target_union {
                *lease = self.id(*lease);
            }
        }
        request.success = self.ops(request.success);
        request.failure = self.ops(request.failure);
        request
    }

    fn ops(&self, ops: Vec<RequestOp>) -> Vec<RequestOp> {
        let translate = |op: RequestOp| RequestOp {
            request: op.request.map(|request| match request {
                Request::RequestPut(put) => Request::RequestPut(self.put(put)),
                Request::RequestTxn(txn) => Request::RequestTxn(self.txn(txn)),
                other => other,
            }),
        };
        ops.into_iter().map(translate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_translate_both_ways_and_leave_other_ids_alone() {
        let mut names = LeaseNames::default();
        names.add(0x1234_5678_9abc);
        assert_eq!(names.id(CHOSEN), 0x1234_5678_9abc);
        assert_eq!(names.name(0x1234_5678_9abc), CHOSEN);
        for other in [0, 5, -7, CHOSEN + 1, i64::MIN, i64::MAX] {
            assert_eq!(names.id(other), other);
            assert_eq!(names.name(other), other);
        }
    }
}
