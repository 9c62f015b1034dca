//! The message itself, as it came over the wire.

use keelson_api::etcdserverpb::{ResponseHeader, WatchResponse};
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
        Reply::Health(_) | Reply::Status(_) | Reply::HashKv(_) | Reply::Snapshot(_) | Reply::Backups(_) => {
            return Err(unsupported("protobuf"));
        }
        // Of these etcdctl prints the header alone, and of the last nothing.
        Reply::Grant(response) => header(response.header.as_ref()),
        Reply::KeepAlive(response) => header(response.header.as_ref()),
        Reply::TimeToLive { response, .. } => header(response.header.as_ref()),
        Reply::Leases(response) => header(response.header.as_ref()),
        Reply::Revoke(..) => {
            return Err(Failure::new(BAD_FEATURE, "marshal unsupported for type *clientv3.LeaseRevokeResponse"));
        }
    })
}

fn header(header: Option<&ResponseHeader>) -> Vec<u8> {
    header.map(Message::encode_to_vec).unwrap_or_default()
}
