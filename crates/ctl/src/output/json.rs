//! One line of JSON, with the names and the order that etcd's Go types give.

use keelson_api::authpb::Permission;
use keelson_api::etcdserverpb::response_op::Response;
use keelson_api::etcdserverpb::*;
use keelson_api::mvccpb::{Event, KeyValue};

use super::json_value::{Object, bytes, list, string};
use super::{BackupRow, Health, Reply};

pub fn render(reply: &Reply, hex: bool) -> Vec<u8> {
    let mut line = value(reply, hex);
    line.push('\n');
    line.into_bytes()
}

fn backup(backup: &BackupRow) -> String {
    Object::new()
        .raw("id", string(&backup.id))
        .raw("state", string(backup.state))
        .number("firstRevision", backup.first_revision)
        .number("lastRevision", backup.last_revision)
        .text("firstTime", &backup.first_time)
        .text("lastTime", &backup.last_time)
        .text("clusterID", &backup.cluster_id)
        .number("keys", backup.keys)
        .raw("size", backup.size.to_string())
        .text("trouble", &backup.trouble)
        .end()
}

fn value(reply: &Reply, hex: bool) -> String {
    match reply {
        Reply::Get { response, .. } => get(response),
        Reply::Put(response) => put(response),
        Reply::Delete(response) => delete(response),
        Reply::Txn(response) => txn(response),
        Reply::Watch(response) => watch(response),
        Reply::Grant(r) => {
            flat(&r.header).raw("ID", r.id.to_string()).raw("TTL", r.ttl.to_string()).raw("Error", string(&r.error)).end()
        }
        Reply::KeepAlive(r) => flat(&r.header).raw("ID", r.id.to_string()).raw("TTL", r.ttl.to_string()).end(),
        Reply::TimeToLive { response: r, .. } => flat(&r.header)
            .raw("id", r.id.to_string())
            .raw("ttl", r.ttl.to_string())
            .raw("granted-ttl", r.granted_ttl.to_string())
            .raw("keys", if r.keys.is_empty() { "null".to_owned() } else { list(&r.keys, |key| bytes(key)) })
            .end(),
        Reply::Leases(r) => {
            let lease = |lease: &LeaseStatus| Object::new().raw("id", lease.id.to_string()).end();
            flat(&r.header).raw("leases", list(&r.leases, lease)).end()
        }
        Reply::MemberAdd(r) if hex => hexadecimal(&r.header)
            .raw("member", r.member.as_ref().map_or_else(|| "null".to_owned(), member_in_hex))
            .raw("members", list(&r.members, member_in_hex))
            .end(),
        Reply::MemberAdd(r) => {
            with(&r.header).optional("member", r.member.as_ref().map(member)).list("members", &r.members, member).end()
        }
        Reply::MemberRemove(_, r) => members(&r.header, &r.members, hex),
        Reply::MemberUpdate(_, r) => members(&r.header, &r.members, hex),
        Reply::MemberPromote(_, r) => members(&r.header, &r.members, hex),
        Reply::MemberList(r) => members(&r.header, &r.members, hex),
        Reply::Health(endpoints) => each(endpoints, health),
        Reply::Status(endpoints) => each(endpoints, |(endpoint, response)| at(endpoint, "Status", status(response))),
        Reply::HashKv(endpoints) => each(endpoints, |(endpoint, r)| {
            let hash = with(&r.header)
                .number("hash", r.hash)
                .number("compact_revision", r.compact_revision)
                .number("hash_revision", r.hash_revision);
            at(endpoint, "HashKV", hash.end())
        }),
        Reply::Backups(backups) => list(backups, backup),
        Reply::Snapshot(s) => Object::new()
            .raw("hash", s.hash.to_string())
            .raw("revision", s.revision.to_string())
            .raw("totalKey", s.total_key.to_string())
            .raw("totalSize", s.total_size.to_string())
            .raw("version", string(&s.version))
            .end(),
        Reply::Downgrade(_, r) => with(&r.header).text("version", &r.version).end(),
        Reply::Alarms(r) => {
            let alarm = |a: &AlarmMember| Object::new().number("memberID", a.member_id).number("alarm", a.alarm).end();
            with(&r.header).list("alarms", &r.alarms, alarm).end()
        }
        Reply::AuthStatus(r) => with(&r.header).truth("enabled", r.enabled).number("authRevision", r.auth_revision).end(),
        Reply::RoleGet(_, r) => {
            let permission = |p: &Permission| {
                let object = Object::new().number("permType", p.perm_type);
                object.bytes("key", &p.key).bytes("range_end", &p.range_end).end()
            };
            with(&r.header).list("perm", &r.perm, permission).end()
        }
        Reply::RoleList(r) => with(&r.header).list("roles", &r.roles, |role| string(role)).end(),
        Reply::UserGet(_, r) => with(&r.header).list("roles", &r.roles, |role| string(role)).end(),
        Reply::UserList(r) => with(&r.header).list("users", &r.users, |user| string(user)).end(),
        Reply::Revoke(_, r) => with(&r.header).end(),
        Reply::MoveLeader { response, .. } => with(&response.header).end(),
        Reply::RoleAdd(_, r) => with(&r.header).end(),
        Reply::RoleDelete(_, r) => with(&r.header).end(),
        Reply::RoleGrant(_, r) => with(&r.header).end(),
        Reply::RoleRevoke { response, .. } => with(&response.header).end(),
        Reply::UserAdd(_, r) => with(&r.header).end(),
        Reply::UserDelete(_, r) => with(&r.header).end(),
        Reply::UserPassword(r) => with(&r.header).end(),
        Reply::UserGrant { response, .. } => with(&response.header).end(),
        Reply::UserRevoke { response, .. } => with(&response.header).end(),
    }
}

/// The header's own fields, as some answers have them between theirs.
fn flat(header: &Option<ResponseHeader>) -> Object {
    let header = header.unwrap_or_default();
    Object::new()
        .number("cluster_id", header.cluster_id)
        .number("member_id", header.member_id)
        .number("revision", header.revision)
        .number("raft_term", header.raft_term)
}

fn with(header: &Option<ResponseHeader>) -> Object {
    Object::new().optional("header", header.is_some().then(|| flat(header).end()))
}

fn get(r: &RangeResponse) -> String {
    with(&r.header).list("kvs", &r.kvs, pair).truth("more", r.more).number("count", r.count).end()
}

fn put(r: &PutResponse) -> String {
    with(&r.header).optional("prev_kv", r.prev_kv.as_ref().map(pair)).end()
}

fn delete(r: &DeleteRangeResponse) -> String {
    with(&r.header).number("deleted", r.deleted).list("prev_kvs", &r.prev_kvs, pair).end()
}

fn txn(r: &TxnResponse) -> String {
    with(&r.header).truth("succeeded", r.succeeded).list("responses", &r.responses, op).end()
}

fn op(op: &ResponseOp) -> String {
    let response = match &op.response {
        Some(Response::ResponseRange(r)) => Object::new().raw("response_range", get(r)),
        Some(Response::ResponsePut(r)) => Object::new().raw("response_put", put(r)),
        Some(Response::ResponseDeleteRange(r)) => Object::new().raw("response_delete_range", delete(r)),
        Some(Response::ResponseTxn(r)) => Object::new().raw("response_txn", txn(r)),
        None => Object::new(),
    };
    Object::new().raw("Response", response.end()).end()
}

fn pair(kv: &KeyValue) -> String {
    Object::new()
        .bytes("key", &kv.key)
        .number("create_revision", kv.create_revision)
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version)
        .bytes("value", &kv.value)
        .number("lease", kv.lease)
        .end()
}

fn watch(r: &WatchResponse) -> String {
    let event = |event: &Event| {
        let object = Object::new().number("type", event.r#type);
        object.optional("kv", event.kv.as_ref().map(pair)).optional("prev_kv", event.prev_kv.as_ref().map(pair)).end()
    };
    let header = r.header.is_some().then(|| flat(&r.header).end());
    Object::new()
        .raw("Header", header.unwrap_or_else(|| "null".into()))
        .raw("Events", each(&r.events, event))
        .raw("CompactRevision", r.compact_revision.to_string())
        .raw("Canceled", r.canceled.to_string())
        .raw("Created", r.created.to_string())
        .raw("CancelReason", string(&r.cancel_reason))
        .end()
}

fn members(header: &Option<ResponseHeader>, members: &[Member], hex: bool) -> String {
    if hex {
        hexadecimal(header).raw("members", list(members, member_in_hex)).end()
    } else {
        with(header).list("members", members, member).end()
    }
}

fn member(m: &Member) -> String {
    described(Object::new().number("ID", m.id), m)
}

fn member_in_hex(m: &Member) -> String {
    described(Object::new().raw("ID", string(&format!("{:x}", m.id))), m)
}

fn described(object: Object, m: &Member) -> String {
    object
        .text("name", &m.name)
        .list("peerURLs", &m.peer_ur_ls, |url| string(url))
        .list("clientURLs", &m.client_ur_ls, |url| string(url))
        .truth("isLearner", m.is_learner)
        .end()
}

fn hexadecimal(header: &Option<ResponseHeader>) -> Object {
    let Some(h) = header else { return Object::new().raw("header", "null") };
    let ids = Object::new()
        .raw("cluster_id", string(&format!("{:x}", h.cluster_id)))
        .raw("member_id", string(&format!("{:x}", h.member_id)));
    Object::new().raw("header", ids.number("revision", h.revision).number("raft_term", h.raft_term).end())
}

fn health(h: &Health) -> String {
    Object::new()
        .raw("endpoint", string(&h.endpoint))
        .raw("health", h.healthy.to_string())
        .raw("took", string(&h.took))
        .text("error", &h.error)
        .end()
}

fn status(r: &StatusResponse) -> String {
    let downgrade =
        |info: &DowngradeInfo| Object::new().truth("enabled", info.enabled).text("targetVersion", &info.target_version).end();
    with(&r.header)
        .text("version", &r.version)
        .number("dbSize", r.db_size)
        .number("leader", r.leader)
        .number("raftIndex", r.raft_index)
        .number("raftTerm", r.raft_term)
        .number("raftAppliedIndex", r.raft_applied_index)
        .list("errors", &r.errors, |error| string(error))
        .number("dbSizeInUse", r.db_size_in_use)
        .truth("isLearner", r.is_learner)
        .text("storageVersion", &r.storage_version)
        .number("dbSizeQuota", r.db_size_quota)
        .optional("downgradeInfo", r.downgrade_info.as_ref().map(downgrade))
        .end()
}

fn at(endpoint: &str, name: &str, value: String) -> String {
    Object::new().raw("Endpoint", string(endpoint)).raw(name, value).end()
}

/// Go writes a list that was never made as null.
fn each<T>(values: &[T], show: impl Fn(&T) -> String) -> String {
    if values.is_empty() { "null".into() } else { list(values, show) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reply: &Reply, hex: bool) -> String {
        String::from_utf8(render(reply, hex)).unwrap()
    }

    fn header() -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: 255, member_id: 16, revision: 2, raft_term: 1 })
    }

    #[test]
    fn headers_stand_apart_or_between_the_fields() {
        let put = Reply::Put(PutResponse { header: header(), prev_kv: None });
        let apart = r#"{"header":{"cluster_id":255,"member_id":16,"revision":2,"raft_term":1}}"#;
        assert_eq!(shown(&put, true), format!("{apart}\n"));
        let leases = Reply::Leases(LeaseLeasesResponse { header: header(), leases: vec![] });
        let between = r#"{"cluster_id":255,"member_id":16,"revision":2,"raft_term":1,"leases":[]}"#;
        assert_eq!(shown(&leases, false), format!("{between}\n"));
    }

    #[test]
    fn members_can_have_hexadecimal_ids() {
        let response = MemberListResponse { header: header(), members: vec![Member { id: 171, ..Member::default() }] };
        let reply = Reply::MemberList(response);
        let hex = r#"{"header":{"cluster_id":"ff","member_id":"10","revision":2,"raft_term":1},"members":[{"ID":"ab"}]}"#;
        assert_eq!(shown(&reply, true), format!("{hex}\n"));
        assert!(shown(&reply, false).ends_with(",\"members\":[{\"ID\":171}]}\n"));
    }

    #[test]
    fn answers_inside_a_transaction_are_named_by_their_kind() {
        let op = |response| ResponseOp { response: Some(response) };
        let range = RangeResponse { count: 3, ..RangeResponse::default() };
        let inner = TxnResponse { succeeded: true, ..TxnResponse::default() };
        let responses = vec![op(Response::ResponseRange(range)), op(Response::ResponseTxn(inner))];
        let reply = Reply::Txn(TxnResponse { responses, ..TxnResponse::default() });
        let text =
            r#"{"responses":[{"Response":{"response_range":{"count":3}}},{"Response":{"response_txn":{"succeeded":true}}}]}"#;
        assert_eq!(shown(&reply, false), format!("{text}\n"));
    }

    #[test]
    fn a_watch_names_all_fields_of_gos_client() {
        let kv = KeyValue { key: "k".into(), mod_revision: 3, ..KeyValue::default() };
        let events = vec![Event { r#type: 1, kv: Some(kv), prev_kv: None }];
        let reply = Reply::Watch(WatchResponse { header: Some(ResponseHeader::default()), events, ..WatchResponse::default() });
        let text = r#"{"Header":{},"Events":[{"type":1,"kv":{"key":"aw==","mod_revision":3}}],"CompactRevision":0,"Canceled":false,"Created":false,"CancelReason":""}"#;
        assert_eq!(shown(&reply, false), format!("{text}\n"));
    }

    #[test]
    fn nothing_at_all_is_null() {
        assert_eq!(shown(&Reply::Status(vec![]), false), "null\n");
    }
}
