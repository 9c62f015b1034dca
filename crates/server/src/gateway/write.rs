//! Answers: messages as proto3's JSON, as etcd has it: fields by the names of the `.proto` files and
//! without those that are not set, 64-bit numbers as text, enums by name, bytes as base64.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{DynamicMessage, Kind, MapKey, Value};

/// Writes a message.
pub fn write(message: &DynamicMessage) -> String {
    let mut out = String::new();
    write_message(&mut out, message);
    out
}

/// Writes a text with its quotes.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write_message(out: &mut String, message: &DynamicMessage) {
    out.push('{');
    for (number, (field, value)) in message.fields().enumerate() {
        if number > 0 {
            out.push(',');
        }
        out.push('"');
        out.push_str(field.name());
        out.push_str("\":");
        write_value(out, &field.kind(), value);
    }
    out.push('}');
}

/// Writes a value of a field, or one item of its list.
pub(super) fn write_value(out: &mut String, kind: &Kind, value: &Value) {
    match value {
        Value::Bool(v) => write_plain(out, v),
        Value::I32(v) => write_plain(out, v),
        Value::U32(v) => write_plain(out, v),
        Value::F32(v) => write_plain(out, v),
        Value::F64(v) => write_plain(out, v),
        Value::I64(v) => write_plain(out, format_args!("\"{v}\"")),
        Value::U64(v) => write_plain(out, format_args!("\"{v}\"")),
        Value::String(v) => out.push_str(&quoted(v)),
        Value::Bytes(v) => {
            out.push('"');
            BASE64_STANDARD.encode_string(v, out);
            out.push('"');
        }
        Value::EnumNumber(n) => match kind.as_enum().and_then(|desc| desc.get_value(*n)) {
            Some(known) => write_plain(out, format_args!("\"{}\"", known.name())),
            None => write_plain(out, n),
        },
        Value::Message(v) => write_message(out, v),
        Value::List(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write_value(out, kind, item);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let of = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            out.push('{');
            for (number, (key, value)) in entries.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(&key_text(key)));
                out.push(':');
                write_value(out, of.as_ref().unwrap_or(kind), value);
            }
            out.push('}');
        }
    }
}

fn write_plain(out: &mut String, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(v) => v.to_string(),
        MapKey::I32(v) => v.to_string(),
        MapKey::I64(v) => v.to_string(),
        MapKey::U32(v) => v.to_string(),
        MapKey::U64(v) => v.to_string(),
        MapKey::String(v) => v.clone(),
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::response_op::Response;
    use keelson_api::etcdserverpb::{
        AlarmMember, AlarmResponse, Member, MemberListResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp,
        TxnResponse,
    };
    use keelson_api::mvccpb::KeyValue;
    use prost::Message;

    use super::super::descriptors;
    use super::*;

    fn json(name: &str, message: &impl Message) -> String {
        let desc = descriptors::message(name);
        write(&DynamicMessage::decode(desc, &message.encode_to_vec()[..]).unwrap())
    }

    #[test]
    fn messages_look_as_etcds() {
        let header = Some(ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 3, raft_term: 1 });
        let kv = KeyValue { key: "k".into(), value: vec![0xfb, 0xff].into(), version: 1, ..Default::default() };
        let range = RangeResponse { header, kvs: vec![kv], more: false, count: 1 };
        assert_eq!(
            json("etcdserverpb.RangeResponse", &range),
            r#"{"header":{"cluster_id":"18446744073709551615","member_id":"2","revision":"3","raft_term":"1"},"kvs":[{"key":"aw==","version":"1","value":"+/8="}],"count":"1"}"#
        );
        let put = ResponseOp { response: Some(Response::ResponsePut(PutResponse::default())) };
        let txn = TxnResponse { header: None, succeeded: true, responses: vec![put] };
        assert_eq!(json("etcdserverpb.TxnResponse", &txn), r#"{"succeeded":true,"responses":[{"response_put":{}}]}"#);
        let member = Member { name: "a\"b\n".into(), peer_ur_ls: vec!["http://x".into()], ..Default::default() };
        let list = MemberListResponse { header: None, members: vec![member] };
        assert_eq!(json("etcdserverpb.MemberListResponse", &list), r#"{"members":[{"name":"a\"b\n","peerURLs":["http://x"]}]}"#);
    }

    #[test]
    fn enums_are_named_unless_nobody_knows_their_name() {
        let alarms = [1, 77].map(|alarm| AlarmMember { member_id: 5, alarm });
        let response = AlarmResponse { header: None, alarms: alarms.to_vec() };
        assert_eq!(
            json("etcdserverpb.AlarmResponse", &response),
            r#"{"alarms":[{"memberID":"5","alarm":"NOSPACE"},{"memberID":"5","alarm":77}]}"#
        );
    }
}
