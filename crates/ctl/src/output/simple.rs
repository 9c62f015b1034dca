//! The format for people, and for scripts that read lines.

use keelson_api::authpb::Permission;
use keelson_api::authpb::permission::Type;
use keelson_api::etcdserverpb::response_op::Response;
use keelson_api::etcdserverpb::{AlarmType, DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, TxnResponse};
use keelson_api::mvccpb::KeyValue;
use keelson_api::mvccpb::event::EventType;

use super::{Health, Reply, lease_id, rows};
use crate::client::prefix_end;

pub fn render(reply: &Reply, hex: bool) -> Vec<u8> {
    let mut text = Text { bytes: Vec::new(), hex, values_only: false };
    text.reply(reply);
    text.bytes
}

/// The endpoints that are not well are told on stderr.
pub fn sick(endpoints: &[Health]) -> Vec<String> {
    let sick = endpoints.iter().filter(|endpoint| !endpoint.error.is_empty());
    sick.map(|e| format!("{} is unhealthy: failed to commit proposal: {}", e.endpoint, e.error)).collect()
}

struct Text {
    /// Keys and values need not be text.
    bytes: Vec<u8>,
    hex: bool,
    values_only: bool,
}

impl Text {
    fn line(&mut self, line: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(line.as_ref());
        self.bytes.push(b'\n');
    }

    fn rows(&mut self, rows: Vec<Vec<String>>) {
        rows.iter().for_each(|row| self.line(row.join(", ")));
    }

    fn reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Get { response, values_only } => {
                self.values_only = *values_only;
                self.get(response);
            }
            Reply::Put(response) => self.put(response),
            Reply::Delete(response) => self.delete(response),
            Reply::Txn(response) => self.txn(response),
            Reply::Watch(response) => {
                for event in &response.events {
                    self.line(if event.r#type() == EventType::Delete { "DELETE" } else { "PUT" });
                    self.pairs(event.prev_kv.iter().chain(&event.kv));
                }
            }
            Reply::Grant(r) => self.line(format!("lease {} granted with TTL({}s)", lease_id(r.id), r.ttl)),
            Reply::Revoke(id, _) => self.line(format!("lease {} revoked", lease_id(*id))),
            Reply::KeepAlive(r) => self.line(format!("lease {} keepalived with TTL({})", lease_id(r.id), r.ttl)),
            Reply::TimeToLive { response: r, .. } if r.granted_ttl == 0 && r.ttl == -1 => {
                self.line(format!("lease {} already expired", lease_id(r.id)));
            }
            Reply::TimeToLive { response: r, keys } => {
                let id = lease_id(r.id);
                let times = format!("lease {id} granted with TTL({}s), remaining({}s)", r.granted_ttl, r.ttl);
                let mut line = times.into_bytes();
                if *keys {
                    line.extend_from_slice(b", attached keys([");
                    line.extend_from_slice(&r.keys.join(&b' '));
                    line.extend_from_slice(b"])");
                }
                self.line(line);
            }
            Reply::Leases(r) => {
                self.line(format!("found {} leases", r.leases.len()));
                r.leases.iter().for_each(|lease| self.line(lease_id(lease.id)));
            }
            Reply::MemberAdd(r) => {
                let (id, learner) = r.member.as_ref().map_or((0, false), |member| (member.id, member.is_learner));
                let how = if learner { " as learner " } else { " " };
                self.line(format!("Member {id:16x} added{how}to cluster {:16x}", cluster(&r.header)));
            }
            Reply::MemberRemove(id, r) => {
                self.line(format!("Member {id:16x} removed from cluster {:16x}", cluster(&r.header)));
            }
            Reply::MemberUpdate(id, r) => self.line(format!("Member {id:16x} updated in cluster {:16x}", cluster(&r.header))),
            Reply::MemberPromote(id, r) => {
                self.line(format!("Member {id:16x} promoted in cluster {:16x}", cluster(&r.header)));
            }
            Reply::MemberList(r) => self.rows(rows::members(r).1),
            Reply::Health(endpoints) => {
                for e in endpoints.iter().filter(|endpoint| endpoint.error.is_empty()) {
                    self.line(format!("{} is healthy: successfully committed proposal: took = {}", e.endpoint, e.took));
                }
            }
            Reply::Status(endpoints) => self.rows(rows::statuses(endpoints).1),
            Reply::HashKv(endpoints) => self.rows(rows::hashes(endpoints).1),
            Reply::Snapshot(status) => self.rows(rows::snapshot(status).1),
            Reply::Backups(backups) => self.rows(rows::backups(backups).1),
            Reply::MoveLeader { from, to, .. } => self.line(format!("Leadership transferred from {from:x} to {to:x}")),
            Reply::Downgrade(what, r) => self.line(format!("Downgrade {what} success, cluster version {}", r.version)),
            Reply::Alarms(r) => {
                for alarm in &r.alarms {
                    // The text of a message: fields at their defaults are left out, two blanks stand between.
                    let mut fields = Vec::new();
                    if alarm.member_id != 0 {
                        fields.push(format!("memberID:{}", alarm.member_id));
                    }
                    if alarm.alarm() != AlarmType::None {
                        fields.push(format!("alarm:{}", alarm.alarm().as_str_name()));
                    }
                    self.line(fields.join("  "));
                }
            }
            Reply::AuthStatus(r) => {
                self.line(format!("Authentication Status: {}", r.enabled));
                self.line(format!("AuthRevision: {}", r.auth_revision));
            }
            Reply::RoleAdd(role, _) => self.line(format!("Role {role} created")),
            Reply::RoleGet(role, r) => self.role(role, &r.perm),
            Reply::RoleList(r) => r.roles.iter().for_each(|role| self.line(role)),
            Reply::RoleDelete(role, _) => self.line(format!("Role {role} deleted")),
            Reply::RoleGrant(role, _) => self.line(format!("Role {role} updated")),
            Reply::RoleRevoke { role, key, end, .. } => {
                let what = match end.as_slice() {
                    b"" => joined(&[b"key ", key]),
                    b"\0" => joined(&[b"range [", key, b", <open ended>"]),
                    end => joined(&[b"range [", key, b", ", end, b")"]),
                };
                self.line(joined(&[b"Permission of ", &what, b" is revoked from role ", role.as_bytes()]));
            }
            Reply::UserAdd(user, _) => self.line(format!("User {user} created")),
            Reply::UserGet(user, r) => {
                self.line(format!("User: {user}"));
                self.line(format!("Roles:{}", r.roles.iter().map(|role| format!(" {role}")).collect::<String>()));
            }
            Reply::UserList(r) => r.users.iter().for_each(|user| self.line(user)),
            Reply::UserDelete(user, _) => self.line(format!("User {user} deleted")),
            Reply::UserPassword(_) => self.line("Password updated"),
            Reply::UserGrant { user, role, .. } => self.line(format!("Role {role} is granted to user {user}")),
            Reply::UserRevoke { user, role, .. } => self.line(format!("Role {role} is revoked from user {user}")),
        }
    }

    fn pairs<'a>(&mut self, pairs: impl IntoIterator<Item = &'a KeyValue>) {
        for pair in pairs {
            let shown = |bytes: &[u8]| if self.hex { hex(bytes) } else { bytes.to_vec() };
            let (key, value) = (shown(&pair.key), shown(&pair.value));
            if !self.values_only {
                self.line(key);
            }
            self.line(value);
        }
    }

    fn get(&mut self, response: &RangeResponse) {
        self.pairs(&response.kvs);
    }

    fn put(&mut self, response: &PutResponse) {
        self.line("OK");
        self.pairs(&response.prev_kv);
    }

    fn delete(&mut self, response: &DeleteRangeResponse) {
        self.line(response.deleted.to_string());
        self.pairs(&response.prev_kvs);
    }

    fn txn(&mut self, response: &TxnResponse) {
        self.line(if response.succeeded { "SUCCESS" } else { "FAILURE" });
        for op in &response.responses {
            self.line("");
            match &op.response {
                Some(Response::ResponseDeleteRange(response)) => self.delete(response),
                Some(Response::ResponsePut(response)) => self.put(response),
                Some(Response::ResponseRange(response)) => self.get(response),
                other => self.line(format!("unexpected response {other:?}")),
            }
        }
    }

    fn role(&mut self, role: &str, permissions: &[Permission]) {
        self.line(format!("Role {role}"));
        let all = role == "root" && permissions.is_empty();
        for (heading, other) in [("KV Read:", Type::Write), ("KV Write:", Type::Read)] {
            self.line(heading);
            if all {
                self.line("\t[, <open ended>");
            }
            permissions.iter().filter(|permission| permission.perm_type() != other).for_each(|permission| {
                self.line(range(permission));
            });
        }
    }
}

fn range(permission: &Permission) -> Vec<u8> {
    let (key, end) = (permission.key.as_ref(), permission.range_end.as_ref());
    if end.is_empty() {
        return joined(&[b"\t", key]);
    }
    let mut line = match end {
        b"\0" => joined(&[b"\t[", key, b", <open ended>"]),
        end => joined(&[b"\t[", key, b", ", end, b")"]),
    };
    if !key.is_empty() && prefix_end(key) == end {
        line.extend_from_slice(b" (prefix ");
        line.extend_from_slice(key);
        line.push(b')');
    }
    line
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>().into_bytes()
}

fn cluster(header: &Option<ResponseHeader>) -> u64 {
    header.as_ref().map_or(0, |header| header.cluster_id)
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::*;
    use keelson_api::mvccpb::Event;

    use super::*;

    fn shown(reply: &Reply, hex: bool) -> String {
        String::from_utf8(render(reply, hex)).unwrap()
    }

    fn pair(key: &'static str, value: &'static str) -> KeyValue {
        KeyValue { key: key.into(), value: value.into(), ..KeyValue::default() }
    }

    fn get(values_only: bool) -> Reply {
        let response = RangeResponse { kvs: vec![pair("foo", "bar")], ..RangeResponse::default() };
        Reply::Get { response, values_only }
    }

    #[test]
    fn pairs_are_two_lines_or_one() {
        assert_eq!(shown(&get(false), false), "foo\nbar\n");
        assert_eq!(shown(&get(true), false), "bar\n");
        assert_eq!(shown(&get(false), true), "\\x66\\x6f\\x6f\n\\x62\\x61\\x72\n");
    }

    #[test]
    fn values_that_are_no_text_are_printed_as_they_are() {
        let kv = KeyValue { key: "k".into(), value: vec![0xff, 0].into(), ..KeyValue::default() };
        let reply = Reply::Put(PutResponse { prev_kv: Some(kv), ..PutResponse::default() });
        assert_eq!(render(&reply, false), b"OK\nk\n\xff\0\n");
    }

    #[test]
    fn transactions_have_an_empty_line_before_each_answer() {
        let op = |response| ResponseOp { response: Some(response) };
        let response = TxnResponse {
            succeeded: true,
            responses: vec![
                op(Response::ResponsePut(PutResponse::default())),
                op(Response::ResponseRange(RangeResponse { kvs: vec![pair("a", "b")], ..RangeResponse::default() })),
            ],
            ..TxnResponse::default()
        };
        assert_eq!(shown(&Reply::Txn(response), false), "SUCCESS\n\nOK\n\na\nb\n");
    }

    #[test]
    fn a_delete_is_told_with_an_empty_value() {
        let event = Event { r#type: EventType::Delete.into(), kv: Some(pair("a", "")), prev_kv: Some(pair("a", "b")) };
        let response = WatchResponse { events: vec![event], ..WatchResponse::default() };
        assert_eq!(shown(&Reply::Watch(response), false), "DELETE\na\nb\na\n\n");
    }

    #[test]
    fn leases_tell_what_is_left_of_them() {
        let left = LeaseTimeToLiveResponse {
            id: 0x12,
            ttl: 9,
            granted_ttl: 10,
            keys: vec!["a".into(), "b".into()],
            ..LeaseTimeToLiveResponse::default()
        };
        let reply = Reply::TimeToLive { response: left, keys: true };
        let text = "lease 0000000000000012 granted with TTL(10s), remaining(9s), attached keys([a b])\n";
        assert_eq!(shown(&reply, false), text);
        let over = LeaseTimeToLiveResponse { id: 0x12, ttl: -1, ..LeaseTimeToLiveResponse::default() };
        let reply = Reply::TimeToLive { response: over, keys: false };
        assert_eq!(shown(&reply, false), "lease 0000000000000012 already expired\n");
        assert_eq!(shown(&Reply::Revoke(-18, LeaseRevokeResponse::default()), false), "lease -000000000000012 revoked\n");
        assert_eq!(lease_id(i64::MIN), "-8000000000000000");
    }

    #[test]
    fn roles_show_their_ranges() {
        let permission = |kind: Type, key: &'static str, end: &'static str| Permission {
            perm_type: kind.into(),
            key: key.into(),
            range_end: end.into(),
        };
        let perm =
            vec![permission(Type::Read, "a", ""), permission(Type::Write, "b", "\0"), permission(Type::Readwrite, "foo", "fop")];
        let reply = Reply::RoleGet("r".into(), AuthRoleGetResponse { perm, header: None });
        let text = "Role r\nKV Read:\n\ta\n\t[foo, fop) (prefix foo)\nKV Write:\n\t[b, <open ended>\n\t[foo, fop) (prefix foo)\n";
        assert_eq!(shown(&reply, false), text);
        let root = Reply::RoleGet("root".into(), AuthRoleGetResponse::default());
        let text = "Role root\nKV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>\n";
        assert_eq!(shown(&root, false), text);
        let revoked = |end: &str| Reply::RoleRevoke {
            role: "r".into(),
            key: b"k".to_vec(),
            end: end.into(),
            response: AuthRoleRevokePermissionResponse::default(),
        };
        assert_eq!(shown(&revoked(""), false), "Permission of key k is revoked from role r\n");
        assert_eq!(shown(&revoked("\0"), false), "Permission of range [k, <open ended> is revoked from role r\n");
        assert_eq!(shown(&revoked("m"), false), "Permission of range [k, m) is revoked from role r\n");
    }

    #[test]
    fn members_are_told_by_ids_in_sixteen_places() {
        let header = Some(ResponseHeader { cluster_id: 0xabc, ..ResponseHeader::default() });
        let reply = Reply::MemberRemove(0x12, MemberRemoveResponse { header, members: Vec::new() });
        assert_eq!(shown(&reply, false), "Member               12 removed from cluster              abc\n");
    }
}
