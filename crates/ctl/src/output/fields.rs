//! One field in a line, for scripts.

use std::fmt::Write;

use keelson_api::etcdserverpb::response_op::Response;
use keelson_api::etcdserverpb::*;
use keelson_api::mvccpb::KeyValue;

use super::{Reply, id, lease_id};
use crate::go::quote::quote;

/// Nothing if etcdctl has no fields for the answer.
pub fn render(reply: &Reply, hex: bool) -> Option<Vec<u8>> {
    let mut fields = Fields { text: String::new(), hex };
    fields.reply(reply)?;
    Some(fields.text.into_bytes())
}

struct Fields {
    text: String,
    hex: bool,
}

impl Fields {
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "\"{name}\" : {value}");
    }

    fn quoted(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.field(name, quote(value.as_ref()));
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn lease(&mut self, name: &str, lease: i64) {
        if self.hex { self.field(name, lease_id(lease)) } else { self.field(name, lease) }
    }

    fn header(&mut self, header: &Option<ResponseHeader>) {
        let header = header.unwrap_or_default();
        self.field("ClusterID", id(header.cluster_id, self.hex));
        self.field("MemberID", id(header.member_id, self.hex));
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn pair(&mut self, prefix: &str, pair: &KeyValue) {
        self.quoted(&format!("{prefix}Key"), &pair.key);
        self.field(&format!("{prefix}CreateRevision"), pair.create_revision);
        self.field(&format!("{prefix}ModRevision"), pair.mod_revision);
        self.field(&format!("{prefix}Version"), pair.version);
        self.quoted(&format!("{prefix}Value"), &pair.value);
        self.lease(&format!("{prefix}Lease"), pair.lease);
    }

    fn get(&mut self, r: &RangeResponse) {
        self.header(&r.header);
        r.kvs.iter().for_each(|pair| self.pair("", pair));
        self.field("More", r.more);
        self.field("Count", r.count);
    }

    fn put(&mut self, r: &PutResponse) {
        self.header(&r.header);
        r.prev_kv.iter().for_each(|pair| self.pair("Prev", pair));
    }

    fn delete(&mut self, r: &DeleteRangeResponse) {
        self.header(&r.header);
        self.field("Deleted", r.deleted);
        r.prev_kvs.iter().for_each(|pair| self.pair("Prev", pair));
    }

    fn txn(&mut self, r: &TxnResponse) {
        self.header(&r.header);
        self.field("Succeeded", r.succeeded);
        for op in &r.responses {
            match &op.response {
                Some(Response::ResponseDeleteRange(response)) => self.delete(response),
                Some(Response::ResponsePut(response)) => self.put(response),
                Some(Response::ResponseRange(response)) => self.get(response),
                other => self.quoted("Unknown", format!("{other:?}")),
            }
        }
    }

    fn status(&mut self, endpoint: &str, r: &StatusResponse) {
        let downgrade = r.downgrade_info.clone().unwrap_or_default();
        self.header(&r.header);
        self.quoted("Version", &r.version);
        self.quoted("StorageVersion", &r.storage_version);
        self.field("DBSize", r.db_size);
        self.field("DBSizeInUse", r.db_size_in_use);
        self.field("DBSizeQuota", r.db_size_quota);
        self.field("Leader", r.leader);
        self.field("IsLearner", r.is_learner);
        self.field("RaftIndex", r.raft_index);
        self.field("RaftAppliedIndex", r.raft_applied_index);
        self.field("Errors", format_args!("[{}]", r.errors.join(" ")));
        self.quoted("Endpoint", endpoint);
        self.quoted("DowngradeTargetVersion", downgrade.target_version);
        self.field("DowngradeEnabled", downgrade.enabled);
        self.gap();
    }

    fn reply(&mut self, reply: &Reply) -> Option<()> {
        match reply {
            Reply::Get { response, .. } => self.get(response),
            Reply::Put(response) => self.put(response),
            Reply::Delete(response) => self.delete(response),
            Reply::Txn(response) => self.txn(response),
            Reply::Watch(r) => {
                self.header(&r.header);
                for event in &r.events {
                    self.field("Type", event.r#type().as_str_name());
                    event.prev_kv.iter().for_each(|pair| self.pair("Prev", pair));
                    self.pair("", &event.kv.clone().unwrap_or_default());
                }
            }
            Reply::Grant(r) => {
                self.header(&r.header);
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
            }
            Reply::Revoke(_, r) => self.header(&r.header),
            Reply::KeepAlive(r) => {
                self.header(&r.header);
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
            }
            Reply::TimeToLive { response: r, .. } => {
                self.header(&r.header);
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
                self.field("GrantedTTL", r.granted_ttl);
                r.keys.iter().for_each(|key| self.quoted("Key", key));
            }
            Reply::Leases(r) => {
                self.header(&r.header);
                r.leases.iter().for_each(|lease| self.lease("ID", lease.id));
            }
            Reply::MemberList(r) => {
                self.header(&r.header);
                for member in &r.members {
                    self.field("ID", id(member.id, self.hex));
                    self.quoted("Name", &member.name);
                    member.peer_ur_ls.iter().for_each(|url| self.quoted("PeerURL", url));
                    member.client_ur_ls.iter().for_each(|url| self.quoted("ClientURL", url));
                    self.field("IsLearner", member.is_learner);
                    self.gap();
                }
            }
            Reply::Health(endpoints) => {
                for health in endpoints {
                    self.quoted("Endpoint", &health.endpoint);
                    self.field("Health", health.healthy);
                    self.field("Took", &health.took);
                    self.field("Error", &health.error);
                    self.gap();
                }
            }
            Reply::Status(endpoints) => endpoints.iter().for_each(|(endpoint, r)| self.status(endpoint, r)),
            Reply::HashKv(endpoints) => {
                for (endpoint, r) in endpoints {
                    self.header(&r.header);
                    self.quoted("Endpoint", endpoint);
                    self.field("Hash", r.hash);
                    self.field("HashRevision", r.hash_revision);
                    self.gap();
                }
            }
            Reply::Snapshot(s) => {
                self.field("Hash", s.hash);
                self.field("Revision", s.revision);
                self.field("Keys", s.total_key);
                self.field("Size", s.total_size);
                self.field("Version", &s.version);
            }
            Reply::Backups(backups) => {
                for backup in backups {
                    self.quoted("ID", &backup.id);
                    self.quoted("State", backup.state);
                    self.field("FirstRevision", backup.first_revision);
                    self.field("LastRevision", backup.last_revision);
                    self.quoted("FirstTime", &backup.first_time);
                    self.quoted("LastTime", &backup.last_time);
                    self.quoted("ClusterID", &backup.cluster_id);
                    self.field("Keys", backup.keys);
                    self.field("Size", backup.size);
                    self.quoted("Trouble", &backup.trouble);
                    self.gap();
                }
            }
            Reply::Alarms(r) => {
                self.header(&r.header);
                for alarm in &r.alarms {
                    self.field("MemberID", id(alarm.member_id, self.hex));
                    self.field("AlarmType", alarm.alarm().as_str_name());
                    self.gap();
                }
            }
            Reply::RoleGet(_, r) => {
                self.header(&r.header);
                for permission in &r.perm {
                    // etcdctl has two blanks here.
                    self.field("PermType", format_args!(" {}", permission.perm_type().as_str_name()));
                    self.quoted("Key", &permission.key);
                    self.quoted("RangeEnd", &permission.range_end);
                }
            }
            Reply::RoleList(r) => {
                self.header(&r.header);
                let roles: String = r.roles.iter().map(|role| format!(" {}", quote(role.as_bytes()))).collect();
                self.text += &format!("\"Roles\" :{roles}\n");
            }
            Reply::RoleAdd(_, r) => self.header(&r.header),
            Reply::RoleDelete(_, r) => self.header(&r.header),
            Reply::RoleGrant(_, r) => self.header(&r.header),
            Reply::RoleRevoke { response, .. } => self.header(&response.header),
            Reply::UserAdd(_, r) => self.header(&r.header),
            Reply::UserDelete(_, r) => self.header(&r.header),
            Reply::UserPassword(r) => self.header(&r.header),
            Reply::UserGrant { response, .. } => self.header(&response.header),
            Reply::UserRevoke { response, .. } => self.header(&response.header),
            Reply::MemberAdd(_)
            | Reply::MemberRemove(..)
            | Reply::MemberUpdate(..)
            | Reply::MemberPromote(..)
            | Reply::MoveLeader { .. }
            | Reply::Downgrade(..)
            | Reply::AuthStatus(_)
            | Reply::UserGet(..)
            | Reply::UserList(_) => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_a_line_and_ids_can_be_hexadecimal() {
        let header = Some(ResponseHeader { cluster_id: 255, member_id: 16, revision: 2, raft_term: 1 });
        let kv = KeyValue { key: "k\n".into(), value: "v".into(), lease: 10, ..KeyValue::default() };
        let response = RangeResponse { header, kvs: vec![kv], more: false, count: 1 };
        let reply = Reply::Get { response, values_only: false };
        let text = "\"ClusterID\" : 255\n\"MemberID\" : 16\n\"Revision\" : 2\n\"RaftTerm\" : 1\n\"Key\" : \"k\\n\"\n\
            \"CreateRevision\" : 0\n\"ModRevision\" : 0\n\"Version\" : 0\n\"Value\" : \"v\"\n\"Lease\" : 10\n\
            \"More\" : false\n\"Count\" : 1\n";
        assert_eq!(String::from_utf8(render(&reply, false).unwrap()).unwrap(), text);
        let hex = String::from_utf8(render(&reply, true).unwrap()).unwrap();
        assert!(hex.starts_with("\"ClusterID\" : ff\n\"MemberID\" : 10\n"), "{hex}");
        assert!(hex.contains("\"Lease\" : 000000000000000a\n"), "{hex}");
    }

    #[test]
    fn what_etcdctl_has_no_fields_for_is_refused() {
        assert!(render(&Reply::UserList(AuthUserListResponse::default()), false).is_none());
        assert!(render(&Reply::MemberAdd(MemberAddResponse::default()), false).is_none());
    }
}
