//! Replaces what differs between any two servers: who answered, in which term, and the ids of
//! leases that the server picked. Everything else in a response is left to be compared.

use keelson_api::etcdserverpb::response_op::Response;
use keelson_api::etcdserverpb::{
    DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseTimeToLiveResponse, PutResponse,
    RangeResponse, ResponseHeader, TxnResponse, WatchResponse,
};
use keelson_api::mvccpb::{Event, KeyValue};

use super::lease_names::LeaseNames;

/// Whether a field is set at all is part of the contract: headers inside a transaction only carry
/// the revision.
pub fn header(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

pub fn key_value(kv: &mut KeyValue, names: &LeaseNames) {
    kv.lease = names.name(kv.lease);
}

pub fn range(response: &mut RangeResponse, names: &LeaseNames) {
    header(&mut response.header);
    response.kvs.iter_mut().for_each(|kv| key_value(kv, names));
}

pub fn put(response: &mut PutResponse, names: &LeaseNames) {
    header(&mut response.header);
    response.prev_kv.iter_mut().for_each(|kv| key_value(kv, names));
}

pub fn delete_range(response: &mut DeleteRangeResponse, names: &LeaseNames) {
    header(&mut response.header);
    response.prev_kvs.iter_mut().for_each(|kv| key_value(kv, names));
}

pub fn txn(response: &mut TxnResponse, names: &LeaseNames) {
    header(&mut response.header);
    for op in &mut response.responses {
        match &mut op.response {
            Some(Response::ResponseRange(inner)) => range(inner, names),
            Some(Response::ResponsePut(inner)) => put(inner, names),
            Some(Response::ResponseDeleteRange(inner)) => delete_range(inner, names),
            Some(Response::ResponseTxn(inner)) => txn(inner, names),
            None => {}
        }
    }
}

pub fn lease_grant(response: &mut LeaseGrantResponse, names: &LeaseNames) {
    header(&mut response.header);
    response.id = names.name(response.id);
}

/// The order of the keys is left to the server: etcd walks a hash map.
pub fn lease_time_to_live(response: &mut LeaseTimeToLiveResponse, names: &LeaseNames) {
    header(&mut response.header);
    response.id = names.name(response.id);
    response.keys.sort();
}

pub fn lease_leases(response: &mut LeaseLeasesResponse, names: &LeaseNames) {
    header(&mut response.header);
    response.leases.iter_mut().for_each(|lease| lease.id = names.name(lease.id));
}

pub fn lease_keep_alive(response: &mut LeaseKeepAliveResponse, names: &LeaseNames) {
    header(&mut response.header);
    response.id = names.name(response.id);
}

pub fn watch(response: &mut WatchResponse, names: &LeaseNames) {
    header(&mut response.header);
    response.events.iter_mut().for_each(|event| watch_event(event, names));
}

pub fn watch_event(event: &mut Event, names: &LeaseNames) {
    event.kv.iter_mut().for_each(|kv| key_value(kv, names));
    event.prev_kv.iter_mut().for_each(|kv| key_value(kv, names));
}
