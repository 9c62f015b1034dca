//! What is wrong with a request can mostly be told from the request alone, before it is proposed.

use std::collections::HashSet;

use bytes::Bytes;
use keelson_api::Error;
use keelson_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use keelson_mvcc::KeyRange;

/// Checks a range request.
pub fn check_range(r: &RangeRequest) -> Result<(), Error> {
    if r.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known = SortOrder::try_from(r.sort_order).is_ok() && SortTarget::try_from(r.sort_target).is_ok();
    if known { Ok(()) } else { Err(Error::InvalidSortOption) }
}

/// Checks what a streamed range cannot do; the text of the refusal, which is Unimplemented.
pub fn check_range_stream(r: &RangeRequest) -> Result<(), &'static str> {
    if !crate::range::is_default_ordering(r) {
        return Err("RangeStream does not support custom sort orders");
    }
    if crate::range::has_revision_filters(r) {
        return Err("RangeStream does not support revision filters");
    }
    Ok(())
}

/// Checks a put request.
pub fn check_put(r: &PutRequest) -> Result<(), Error> {
    if r.key.is_empty() {
        Err(Error::EmptyKey)
    } else if r.ignore_value && !r.value.is_empty() {
        Err(Error::ValueProvided)
    } else if r.ignore_lease && r.lease != 0 {
        Err(Error::LeaseProvided)
    } else {
        Ok(())
    }
}

/// Checks a delete request.
pub fn check_delete(r: &DeleteRangeRequest) -> Result<(), Error> {
    if r.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// How deep transactions may be nested. Decoding has a limit on nested messages, and what was decoded
/// as a request must also decode as a command, which wraps it once more.
const MAX_NESTING: usize = 48;

/// Checks a transaction: sizes, keys, and that no key is set twice.
pub fn check_txn(r: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    check_ops(r, max_ops, MAX_NESTING)?;
    Footprint::of(&r.success)?;
    Footprint::of(&r.failure)?;
    Ok(())
}

fn check_ops(r: &TxnRequest, max_ops: usize, nesting: usize) -> Result<(), Error> {
    let ops = r.compare.len().max(r.success.len()).max(r.failure.len());
    let Some(left) = max_ops.checked_sub(ops) else { return Err(Error::TooManyOps) };
    if r.compare.iter().any(|c| c.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    r.success.iter().chain(&r.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(r)) => check_range(r),
        Some(Request::RequestPut(r)) => check_put(r),
        Some(Request::RequestDeleteRange(r)) => check_delete(r),
        Some(Request::RequestTxn(_)) if nesting == 0 => Err(Error::TooManyOps),
        Some(Request::RequestTxn(r)) => check_ops(r, left, nesting - 1),
        None => Err(Error::KeyNotFound),
    })
}

/// Keys a list of operations sets and ranges it deletes.
#[derive(Default)]
struct Footprint {
    puts: HashSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Footprint {
    /// Collects the footprint of one branch; an error if a key would be set twice or set and
    /// deleted. The branches of a nested transaction exclude each other, so they may share keys.
    fn of(ops: &[RequestOp]) -> Result<Self, Error> {
        let mut all = Self::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(r)) = &op.request {
                all.deletes.push(literal_range(r));
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(r)) = &op.request {
                let then = Self::of(&r.success)?;
                let otherwise = Self::of(&r.failure)?;
                for key in then.puts.union(&otherwise.puts) {
                    all.add_put(key)?;
                }
                all.deletes.extend(then.deletes);
                all.deletes.extend(otherwise.deletes);
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(r)) = &op.request {
                all.add_put(&r.key)?;
            }
        }
        Ok(all)
    }

    fn add_put(&mut self, key: &Bytes) -> Result<(), Error> {
        if self.deletes.iter().any(|d| d.contains(key)) || !self.puts.insert(key.clone()) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// The range as etcd's check sees it: there a range end of `\0` is a key like any other, so a delete
/// of everything from some key on does not clash with a put.
fn literal_range(r: &DeleteRangeRequest) -> KeyRange {
    if r.range_end.is_empty() {
        KeyRange::One(r.key.to_vec())
    } else {
        KeyRange::Span(r.key.to_vec(), Some(r.range_end.to_vec()))
    }
}

/// Whether a transaction can be answered from a snapshot: nothing but plain ranges in it.
#[must_use]
pub fn is_read_only(r: &TxnRequest) -> bool {
    r.success.iter().chain(&r.failure).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a transaction may be answered from local state: only serializable ranges, or nothing.
#[must_use]
pub fn is_serializable(r: &TxnRequest) -> bool {
    let serializable = |op: &RequestOp| matches!(&op.request, Some(Request::RequestRange(r)) if r.serializable);
    r.success.iter().chain(&r.failure).all(serializable)
}

/// What a put counts against the quota before it is applied, in bytes.
#[must_use]
pub fn quota_cost_put(r: &PutRequest) -> u64 {
    256 + (r.key.len() + r.value.len()) as u64
}

/// What a transaction may cost: the dearer of its branches.
#[must_use]
pub fn quota_cost_txn(r: &TxnRequest) -> u64 {
    let cost = |ops: &[RequestOp]| {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(r)) => quota_cost_put(r),
                Some(Request::RequestTxn(r)) => quota_cost_txn(r),
                _ => 0,
            })
            .sum::<u64>()
    };
    cost(&r.success).max(cost(&r.failure))
}

#[cfg(test)]
mod tests {
    use keelson_api::keelson::Command;
    use keelson_api::keelson::command::Action;
    use prost::Message;

    use super::*;

    fn put(key: &'static str) -> RequestOp {
        RequestOp { request: Some(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() })) }
    }
    fn del(key: &'static str, end: &'static str) -> RequestOp {
        let r = DeleteRangeRequest { key: key.into(), range_end: end.into(), ..Default::default() };
        RequestOp { request: Some(Request::RequestDeleteRange(r)) }
    }
    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp { request: Some(Request::RequestTxn(TxnRequest { success, failure, ..Default::default() })) }
    }
    fn check(success: Vec<RequestOp>) -> Result<(), Error> {
        check_txn(&TxnRequest { success, ..Default::default() }, 128)
    }

    #[test]
    fn a_key_may_be_set_once_per_path() {
        assert_eq!(check(vec![put("a"), put("b"), del("c", "d")]), Ok(()));
        assert_eq!(check(vec![put("a"), put("a")]), Err(Error::DuplicateKey));
        assert_eq!(check(vec![put("b"), del("a", "c")]), Err(Error::DuplicateKey));
        assert_eq!(check(vec![del("a", "c"), del("b", "d")]), Ok(()));
        assert_eq!(check(vec![put("a"), nested(vec![put("a")], vec![])]), Err(Error::DuplicateKey));
        assert_eq!(check(vec![nested(vec![put("a")], vec![put("a")])]), Ok(()));
        assert_eq!(check(vec![nested(vec![put("a")], vec![]), nested(vec![put("a")], vec![])]), Err(Error::DuplicateKey));
        assert_eq!(check(vec![nested(vec![del("a", "zz")], vec![]), put("z")]), Err(Error::DuplicateKey));
        assert_eq!(check(vec![del("a", "\0"), put("z")]), Ok(()), "an open end is not seen by the check");
    }

    #[test]
    fn nested_transactions_share_one_budget() {
        let two_deep = nested(vec![put("a"), put("b")], vec![]);
        let r = TxnRequest { success: vec![two_deep], ..Default::default() };
        assert_eq!(check_txn(&r, 3), Ok(()));
        assert_eq!(check_txn(&r, 2), Err(Error::TooManyOps));
        assert_eq!(check(vec![RequestOp::default()]), Err(Error::KeyNotFound));
    }

    #[test]
    fn the_deepest_transaction_that_is_accepted_can_be_read_back_from_the_log() {
        let deep = |levels: usize| {
            let innermost = TxnRequest { success: vec![put("k")], ..Default::default() };
            (0..levels).fold(innermost, |inner, _| TxnRequest {
                success: vec![RequestOp { request: Some(Request::RequestTxn(inner)) }],
                ..Default::default()
            })
        };
        let deepest = deep(MAX_NESTING);
        assert_eq!(check_txn(&deepest, 1000), Ok(()));
        let command = Command { action: Some(Action::Txn(deepest)), ..Default::default() };
        assert_eq!(Command::decode(command.encode_to_vec().as_slice()), Ok(command));
        assert_eq!(check_txn(&deep(MAX_NESTING + 1), 1000), Err(Error::TooManyOps));
    }

    #[test]
    fn an_empty_transaction_is_serializable_and_a_nested_one_is_a_write() {
        assert!(is_serializable(&TxnRequest::default()) && is_read_only(&TxnRequest::default()));
        assert!(!is_read_only(&TxnRequest { success: vec![nested(vec![], vec![])], ..Default::default() }));
    }
}
