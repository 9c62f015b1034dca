//! Transactions: all compares, nested ones included, are evaluated first, against the state before
//! the transaction; then everything on the taken path is checked; then it is done.

use std::cmp::Ordering;

use bytes::Bytes;
use keelson_api::Error;
use keelson_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_api::etcdserverpb::request_op::Request;
use keelson_api::etcdserverpb::response_op::Response;
use keelson_api::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse,
};
use keelson_api::mvccpb::KeyValue;
use keelson_mvcc::{Backend, KeyRange, Query, Range, ReadError, ReadMode, Store, Writer};

use crate::lease::Leases;
use crate::range::range_response;

/// What a transaction reads from.
trait Reader {
    fn range(&self, query: &Query) -> Result<Range, ReadError>;
    fn revision(&self) -> i64;
    fn compacted(&self) -> i64;
}

impl<B: Backend> Reader for Writer<B> {
    fn range(&self, query: &Query) -> Result<Range, ReadError> {
        Writer::range(self, query)
    }
    fn revision(&self) -> i64 {
        Writer::revision(self)
    }
    fn compacted(&self) -> i64 {
        Writer::compacted(self)
    }
}

/// One revision of the store, so that all reads of a transaction agree.
struct Pinned<'a, B> {
    store: &'a Store<B>,
    revision: i64,
    mode: ReadMode,
}

impl<B: Backend> Reader for Pinned<'_, B> {
    fn range(&self, query: &Query) -> Result<Range, ReadError> {
        let revision = if query.revision <= 0 { self.revision } else { query.revision };
        let range = self.store.range(&Query { revision, ..query.clone() }, self.mode)?;
        Ok(Range { revision: self.revision, ..range })
    }
    fn revision(&self) -> i64 {
        self.revision
    }
    fn compacted(&self) -> i64 {
        self.store.compacted()
    }
}

/// Why a transaction did nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Error),
    Read(ReadError),
}

impl From<ReadError> for Failure {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Compacted => Self::Refused(Error::Compacted),
            ReadError::Future => Self::Refused(Error::FutureRevision),
            other => Self::Read(other),
        }
    }
}

/// Answers a transaction that changes nothing from the newest revision of `store`.
/// The outer error is the store's, the inner one the request's.
pub fn read_only_txn<B: Backend>(
    store: &Store<B>,
    txn: &TxnRequest,
    mode: ReadMode,
) -> Result<Result<TxnResponse, Error>, ReadError> {
    loop {
        let reader = Pinned { store, revision: store.revision(), mode };
        let outcome = read_pinned(&reader, txn);
        // Compacted under the read: nobody asked for that revision in particular, so take a newer one.
        if store.compacted() > reader.revision {
            continue;
        }
        return match outcome {
            Ok(response) => Ok(Ok(response)),
            Err(Failure::Refused(e)) => Ok(Err(e)),
            Err(Failure::Read(e)) => Err(e),
        };
    }
}

fn read_pinned<B: Backend>(reader: &Pinned<'_, B>, txn: &TxnRequest) -> Result<TxnResponse, Failure> {
    let mut path = Vec::new();
    compare_path(reader, txn, &mut path)?;
    check(reader, |_| Ok(()), txn, &mut path.iter())?;
    let succeeded = path[0];
    let mut responses = Vec::new();
    for op in branch(txn, succeeded) {
        // Anything else was refused before: the transaction is read-only.
        if let Some(Request::RequestRange(r)) = &op.request {
            let response = range_response(r, |q| reader.range(q))?;
            responses.push(ResponseOp { response: Some(Response::ResponseRange(response)) });
        }
    }
    Ok(TxnResponse { header: header(reader.revision), succeeded, responses })
}

/// Runs a transaction that may change things.
pub(crate) fn write_txn<B: Backend>(writer: &mut Writer<B>, leases: &Leases, txn: &TxnRequest) -> Result<TxnResponse, Failure> {
    let mut path = Vec::new();
    compare_path(writer, txn, &mut path)?;
    check(writer, |r| check_put(writer, leases, r), txn, &mut path.iter())?;
    execute(writer, txn, &mut path.iter())
}

pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn branch(txn: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

type Path<'a> = std::slice::Iter<'a, bool>;

fn step(path: &mut Path<'_>) -> bool {
    *path.next().expect("one entry for each transaction on the path")
}

fn compare_path(reader: &impl Reader, txn: &TxnRequest, path: &mut Vec<bool>) -> Result<(), Failure> {
    let mut succeeded = true;
    for compare in &txn.compare {
        if !holds(reader, compare)? {
            succeeded = false;
            break;
        }
    }
    path.push(succeeded);
    for op in branch(txn, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            compare_path(reader, nested, path)?;
        }
    }
    Ok(())
}

fn holds(reader: &impl Reader, compare: &Compare) -> Result<bool, Failure> {
    let by_value = compare.target() == CompareTarget::Value && is_known_target(compare);
    let query = Query {
        range: KeyRange::from_api(&compare.key, &compare.range_end),
        revision: 0,
        limit: 0,
        // Leases are compared too, which the keys-only path does not know.
        keys_only: false,
        count_only: false,
        count: false,
    };
    let found = reader.range(&query)?;
    if found.kvs.is_empty() {
        return Ok(!by_value && matches(compare, &KeyValue::default()));
    }
    Ok(found.kvs.iter().all(|kv| matches(compare, kv)))
}

fn is_known_target(compare: &Compare) -> bool {
    CompareTarget::try_from(compare.target).is_ok()
}

fn matches(compare: &Compare, kv: &KeyValue) -> bool {
    let target = compare.target_union.as_ref();
    let number = |pick: fn(&TargetUnion) -> Option<i64>| target.and_then(pick).unwrap_or(0);
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let value = if let Some(TargetUnion::Value(v)) = target { v.as_ref() } else { &[] };
            kv.value.as_ref().cmp(value)
        }
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&number(|t| match t {
            TargetUnion::CreateRevision(v) => Some(*v),
            _ => None,
        })),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&number(|t| match t {
            TargetUnion::ModRevision(v) => Some(*v),
            _ => None,
        })),
        Ok(CompareTarget::Version) => kv.version.cmp(&number(|t| match t {
            TargetUnion::Version(v) => Some(*v),
            _ => None,
        })),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&number(|t| match t {
            TargetUnion::Lease(v) => Some(*v),
            _ => None,
        })),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Checks all operations on the taken path, so that nothing is half done.
fn check<R: Reader>(
    reader: &R,
    check_put: impl Fn(&PutRequest) -> Result<(), Failure> + Copy,
    txn: &TxnRequest,
    path: &mut Path<'_>,
) -> Result<(), Failure> {
    for op in branch(txn, step(path)) {
        match &op.request {
            Some(Request::RequestRange(r)) => check_revision(reader, r)?,
            Some(Request::RequestPut(r)) => check_put(r)?,
            Some(Request::RequestTxn(r)) => check(reader, check_put, r, path)?,
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

fn check_revision(reader: &impl Reader, r: &RangeRequest) -> Result<(), Failure> {
    match r.revision {
        0 => Ok(()),
        rev if rev > reader.revision() => Err(Failure::Refused(Error::FutureRevision)),
        rev if rev < reader.compacted() => Err(Failure::Refused(Error::Compacted)),
        _ => Ok(()),
    }
}

pub(crate) fn check_put<B: Backend>(writer: &Writer<B>, leases: &Leases, r: &PutRequest) -> Result<(), Failure> {
    if r.lease != 0 && leases.get(r.lease).is_none() {
        return Err(Failure::Refused(Error::LeaseNotFound));
    }
    if (r.ignore_value || r.ignore_lease) && writer.meta(&r.key).is_none() {
        return Err(Failure::Refused(Error::KeyNotFound));
    }
    Ok(())
}

fn execute<B: Backend>(writer: &mut Writer<B>, txn: &TxnRequest, path: &mut Path<'_>) -> Result<TxnResponse, Failure> {
    let succeeded = step(path);
    let mut responses = Vec::new();
    let ops = branch(txn, succeeded);
    responses.reserve(ops.len());
    for op in ops {
        let response = match &op.request {
            Some(Request::RequestRange(r)) => Response::ResponseRange(range_response(r, |q| writer.range(q))?),
            Some(Request::RequestPut(r)) => Response::ResponsePut(put(writer, r)?),
            Some(Request::RequestDeleteRange(r)) => Response::ResponseDeleteRange(delete_range(writer, r)?),
            Some(Request::RequestTxn(r)) => Response::ResponseTxn(execute(writer, r, path)?),
            None => continue,
        };
        responses.push(ResponseOp { response: Some(response) });
    }
    Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
}

/// Sets a key that [`check_put`] let pass.
pub(crate) fn put<B: Backend>(writer: &mut Writer<B>, r: &PutRequest) -> Result<PutResponse, ReadError> {
    let previous = if r.ignore_value || r.prev_kv { writer.current(&r.key)? } else { None };
    let value = match &previous {
        Some(kv) if r.ignore_value => kv.value.clone(),
        _ => r.value.clone(),
    };
    let lease = if r.ignore_lease { writer.meta(&r.key).map_or(0, |m| m.lease) } else { r.lease };
    writer.put(r.key.clone(), value, lease);
    Ok(PutResponse { header: header(writer.revision() + 1), prev_kv: previous.filter(|_| r.prev_kv) })
}

/// Deletes a range.
pub(crate) fn delete_range<B: Backend>(writer: &mut Writer<B>, r: &DeleteRangeRequest) -> Result<DeleteRangeResponse, ReadError> {
    let range = KeyRange::from_api(&r.key, &r.range_end);
    let mut prev_kvs = Vec::new();
    if r.prev_kv {
        let query = Query { range: range.clone(), revision: 0, limit: 0, keys_only: false, count_only: false, count: false };
        prev_kvs = writer.range(&query)?.kvs;
    }
    let mut keys = Vec::new();
    writer.for_each(&range, |key, _| keys.push(Bytes::copy_from_slice(key)));
    let deleted = keys.into_iter().filter_map(|key| writer.delete(key)).count();
    let revision = writer.revision() + i64::from(writer.has_changes());
    Ok(DeleteRangeResponse { header: header(revision), deleted: i64::try_from(deleted).unwrap_or(i64::MAX), prev_kvs })
}
