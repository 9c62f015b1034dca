//! Transactions: compares of every kind, branches of every kind of request, nested ones, and those
//! that must be refused.

use bytes::Bytes;
use keelson_api::etcdserverpb::compare::TargetUnion;
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{Compare, RangeRequest, RequestOp, TxnRequest};
use rand::Rng;

use super::Generator;
use super::pick::FIXED_LEASES;

/// etcd's default `--max-txn-ops`.
const MOST_OPS: usize = 128;

fn ops(txn: &TxnRequest) -> impl Iterator<Item = &Request> {
    txn.success.iter().chain(&txn.failure).filter_map(|op| op.request.as_ref())
}

/// Whether a branch deletes all keys from one on. etcd does not see then that a put of the same transaction is among them.
fn deletes_to_the_end(txn: &TxnRequest) -> bool {
    ops(txn).any(|op| match op {
        Request::RequestDeleteRange(delete) => delete.range_end == b"\0".as_slice(),
        Request::RequestTxn(nested) => deletes_to_the_end(nested),
        Request::RequestPut(_) | Request::RequestRange(_) => false,
    })
}

/// Makes puts bring their own value and lease. etcd dies, and dies again at each start, of one that is to keep those of a
/// key that is gone by then (COMPAT.md).
fn keep_nothing(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure).filter_map(|op| op.request.as_mut()) {
        match op {
            Request::RequestPut(put) => (put.ignore_value, put.ignore_lease) = (false, false),
            Request::RequestTxn(nested) => keep_nothing(nested),
            Request::RequestDeleteRange(_) | Request::RequestRange(_) => {}
        }
    }
}

impl Generator {
    pub(super) fn txn(&mut self) -> TxnRequest {
        if self.chance(2) {
            return self.oversized_txn();
        }
        // Random keys would collide in most transactions of some size and have them refused.
        let tidy = self.chance(80);
        let mut txn = self.branching(0, tidy, &mut Vec::new());
        if deletes_to_the_end(&txn) {
            keep_nothing(&mut txn);
        }
        txn
    }

    fn branching(&mut self, depth: u32, tidy: bool, taken: &mut Vec<Bytes>) -> TxnRequest {
        let compares = self.pick(&[0, 1, 1, 2, 3]);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.branch(depth, tidy, taken),
            failure: self.branch(depth, tidy, taken),
        }
    }

    fn branch(&mut self, depth: u32, tidy: bool, taken: &mut Vec<Bytes>) -> Vec<RequestOp> {
        let ops = self.pick(&[0, 1, 1, 2, 2, 3, 4]);
        (0..ops).map(|_| RequestOp { request: self.op(depth, tidy, taken) }).collect()
    }

    fn op(&mut self, depth: u32, tidy: bool, taken: &mut Vec<Bytes>) -> Option<Request> {
        Some(match self.rng.random_range(0..100) {
            0..=34 => Request::RequestRange(self.txn_range()),
            35..=69 => {
                let mut put = self.put();
                if tidy {
                    put.key = self.untaken(taken)?;
                }
                Request::RequestPut(put)
            }
            70..=84 => {
                let mut delete = self.delete_range();
                if tidy {
                    delete.key = self.untaken(taken)?;
                    delete.range_end.clear();
                }
                Request::RequestDeleteRange(delete)
            }
            85..=97 if depth < 2 => Request::RequestTxn(self.branching(depth + 1, tidy, taken)),
            // An op that asks for nothing is refused with the whole transaction.
            98.. if self.chance(30) => return None,
            _ => Request::RequestRange(self.txn_range()),
        })
    }

    /// A revision that cannot be read fails the whole transaction, so most read the present.
    fn txn_range(&mut self) -> RangeRequest {
        let mut range = self.range();
        if self.chance(60) {
            range.revision = 0;
        }
        range
    }

    /// `None`, which is an empty op, once no key is left.
    fn untaken(&mut self, taken: &mut Vec<Bytes>) -> Option<Bytes> {
        for _ in 0..20 {
            let key = self.real_key();
            if !taken.contains(&key) {
                taken.push(key.clone());
                return Some(key);
            }
        }
        None
    }

    fn compare(&mut self) -> Compare {
        let target = self.rng.random_range(0..5);
        let mut union = target;
        if self.chance(5) {
            union = self.rng.random_range(0..6);
        }
        let mut compare = Compare {
            result: self.rng.random_range(0..4),
            target,
            key: self.key(),
            range_end: if self.chance(25) { self.range_end() } else { Bytes::new() },
            target_union: match union {
                0 => Some(TargetUnion::Version(self.rng.random_range(0..4))),
                1 => Some(TargetUnion::CreateRevision(self.key_revision())),
                2 => Some(TargetUnion::ModRevision(self.key_revision())),
                3 => Some(TargetUnion::Value(self.value())),
                // Which of two ids picked by a server is greater is chance; fixed ones are small.
                4 => Some(TargetUnion::Lease(self.pick(FIXED_LEASES))),
                _ => None,
            },
        };
        if self.chance(2) {
            compare.target = self.pick(&[5, -1, i32::MAX]);
        }
        if self.chance(2) {
            compare.result = self.pick(&[4, -1, i32::MAX]);
        }
        if compare.target == 4 && compare.result % 3 == 0 && self.chance(30) {
            compare.target_union = Some(TargetUnion::Lease(self.lease()));
        }
        compare
    }

    /// At, or just above, the number of operations that a transaction may have.
    fn oversized_txn(&mut self) -> TxnRequest {
        let count = self.pick(&[MOST_OPS, MOST_OPS + 1]);
        let range = |key: Bytes| {
            let range = RangeRequest { key, ..Default::default() };
            RequestOp { request: Some(Request::RequestRange(range)) }
        };
        let mut txn = TxnRequest::default();
        match self.rng.random_range(0..4) {
            0 => txn.compare = (0..count).map(|_| self.compare()).collect(),
            1 => txn.success = (0..count).map(|_| range(self.real_key())).collect(),
            2 => txn.failure = (0..count).map(|_| range(self.real_key())).collect(),
            _ => {
                // What the outer one uses is not left for the inner one.
                let outer = self.rng.random_range(1..MOST_OPS);
                let inner = (count - outer).max(1);
                let nested = TxnRequest { success: (0..inner).map(|_| range(self.real_key())).collect(), ..Default::default() };
                txn.success = (1..outer).map(|_| range(self.real_key())).collect();
                txn.success.push(RequestOp { request: Some(Request::RequestTxn(nested)) });
            }
        }
        txn
    }
}
