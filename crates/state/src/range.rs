//! From what the store read to what the API answers: filters, sorting and the cut to the limit.

use keelson_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_api::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use keelson_api::mvccpb::KeyValue;
use keelson_mvcc::{KeyRange, Query, Range, ReadError};

pub(crate) fn is_default_ordering(r: &RangeRequest) -> bool {
    r.sort_order() == SortOrder::None || (r.sort_target() == SortTarget::Key && r.sort_order() == SortOrder::Ascend)
}

pub(crate) fn has_revision_filters(r: &RangeRequest) -> bool {
    r.min_mod_revision != 0 || r.max_mod_revision != 0 || r.min_create_revision != 0 || r.max_create_revision != 0
}

/// Whether a keys-only request can be served from the index, where leases are not known.
#[must_use]
pub fn range_keys_fast(r: &RangeRequest) -> bool {
    r.keys_only && r.sort_target() != SortTarget::Value
}

/// The read behind a request that wants keys and values in key order, as they are: one that can be
/// answered while it is read.
#[must_use]
pub fn plain_query(r: &RangeRequest) -> Option<Query> {
    // A target without an order still means a sort.
    let in_key_order = r.sort_target() == SortTarget::Key && r.sort_order() != SortOrder::Descend;
    let plain = in_key_order && !has_revision_filters(r) && !r.keys_only && !r.count_only;
    plain.then(|| Query {
        range: KeyRange::from_api(&r.key, &r.range_end),
        revision: r.revision,
        limit: usize::try_from(r.limit).unwrap_or(0),
        keys_only: false,
        count_only: false,
        count: true,
    })
}

/// Answers a range request with what `read` finds in the store.
pub fn range_response(
    r: &RangeRequest,
    read: impl FnOnce(&Query) -> Result<Range, ReadError>,
) -> Result<RangeResponse, ReadError> {
    let asked = usize::try_from(r.limit).unwrap_or(0);
    let whole = asked == 0 || !is_default_ordering(r) || has_revision_filters(r);
    let query = Query {
        range: KeyRange::from_api(&r.key, &r.range_end),
        revision: r.revision,
        limit: if whole { 0 } else { asked.saturating_add(1) },
        keys_only: range_keys_fast(r),
        count_only: r.count_only,
        count: true,
    };
    let Range { mut kvs, count, revision } = read(&query)?;
    if has_revision_filters(r) {
        kvs.retain(|kv| passes_filters(r, kv));
    }
    sort(r, &mut kvs);
    let more = asked > 0 && kvs.len() > asked;
    if more {
        kvs.truncate(asked);
    }
    if r.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    Ok(RangeResponse {
        header: Some(ResponseHeader { revision, ..Default::default() }),
        kvs,
        more,
        count: i64::try_from(count).unwrap_or(i64::MAX),
    })
}

fn passes_filters(r: &RangeRequest, kv: &KeyValue) -> bool {
    let within = |v: i64, min: i64, max: i64| (max == 0 || v <= max) && (min == 0 || v >= min);
    within(kv.mod_revision, r.min_mod_revision, r.max_mod_revision)
        && within(kv.create_revision, r.min_create_revision, r.max_create_revision)
}

fn sort(r: &RangeRequest, kvs: &mut [KeyValue]) {
    // A target without an order means ascending, though the limit has been applied in key order.
    let order = match (r.sort_target(), r.sort_order()) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => return,
        (_, SortOrder::None) => SortOrder::Ascend,
        (_, order) => order,
    };
    let compare = |a: &KeyValue, b: &KeyValue| match r.sort_target() {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    if order == SortOrder::Descend {
        kvs.sort_by(|a, b| compare(b, a));
    } else {
        kvs.sort_by(compare);
    }
}
