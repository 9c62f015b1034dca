//! The message itself, as it came over the wire.

use keelson_api::etcdserverpb::WatchResponse;
use prost::Message;

use super::{Reply, unsupported};
use crate::exit::{BAD_FEATURE, Failure};

pub fn render(reply: &Reply) -> Result<Vec<u8>, Failure> {
    Ok(match reply {
        Reply::Get { response, .. } => response.encode_to_vec(),
        Reply::Put(response) => response.encode_to_vec(),
        Reply::Delete(response) => response.encode_to_vec(),
        Reply::Txn(response) => response.encode_to_vec(),
        // Which watch it was and why it ended is the client's own affair.
        Reply::Watch(r) => WatchResponse {
            header: r.header,
            events: r.events.clone(),
            compact_revision: r.compact_revision,
            canceled: r.canceled,
            created: r.created,
            ..WatchResponse::default()
        }
        .encode_to_vec(),
        Reply::MemberAdd(response) => response.encode_to_vec(),
        Reply::MemberRemove(_, response) => response.encode_to_vec(),
        Reply::MemberUpdate(_, response) => response.encode_to_vec(),
        Reply::MemberPromote(_, response) => response.encode_to_vec(),
        Reply::MemberList(response) => response.encode_to_vec(),
        Reply::MoveLeader { response, .. } => response.encode_to_vec(),
        Reply::Downgrade(_, response) => response.encode_to_vec(),
        Reply::Alarms(response) => response.encode_to_vec(),
        Reply::AuthStatus(response) => response.encode_to_vec(),
        Reply::RoleAdd(_, response) => response.encode_to_vec(),
        Reply::RoleGet(_, response) => response.encode_to_vec(),
        Reply::RoleList(response) => response.encode_to_vec(),
        Reply::RoleDelete(_, response) => response.encode_to_vec(),
        Reply::RoleGrant(_, response) => response.encode_to_vec(),
        Reply::RoleRevoke { response, .. } => response.encode_to_vec(),
        Reply::UserAdd(_, response) => response.encode_to_vec(),
        Reply::UserGet(_, response) => response.encode_to_vec(),
        Reply::UserList(response) => response.encode_to_vec(),
        Reply::UserDelete(_, response) => response.encode_to_vec(),
        Reply::UserPassword(response) => response.encode_to_vec(),
        Reply::UserGrant { response, .. } => response.encode_to_vec(),
        Reply::UserRevoke { response, .. } => response.encode_to_vec(),
        Reply::Health(_) | Reply::Status(_) | Reply::HashKv(_) | Reply::Snapshot(_) => return Err(unsupported("protobuf")),
        // etcdctl does not print these either.
        Reply::Grant(_) => return Err(unmarshalled("LeaseGrantResponse")),
        Reply::Revoke(..) => return Err(unmarshalled("LeaseRevokeResponse")),
        Reply::KeepAlive(_) => return Err(unmarshalled("LeaseKeepAliveResponse")),
        Reply::TimeToLive { .. } => return Err(unmarshalled("LeaseTimeToLiveResponse")),
        Reply::Leases(_) => return Err(unmarshalled("LeaseLeasesResponse")),
    })
}

fn unmarshalled(name: &str) -> Failure {
    Failure::new(BAD_FEATURE, format!("marshal unsupported for type *clientv3.{name}"))
}
