//! What a request says, on a line of the log: protobuf's text, with the sizes of values in place of what they are, and
//! without what belongs to passwords.

use std::fmt::Write;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, Kind, Value};

use crate::gateway::descriptors;

/// Bytes of a line, about: requests may be long, and lines of the log wait in memory to be written.
const LONGEST: usize = 16 << 10;
/// Fields of which only the size is told.
const SIZED: &str = "value";
/// Fields that are not told at all.
const SECRET: [&str; 4] = ["password", "hashed_password", "prefix", "token"];

/// Tells what an encoded message says, which must be one of the `.proto` files' by its full name.
pub fn of(name: &str, encoded: Bytes) -> String {
    let mut out = String::new();
    // Who sent it was told why it cannot be read.
    if let Ok(message) = DynamicMessage::decode(descriptors::message(name), encoded) {
        write_message(&mut out, &message);
    }
    if out.len() >= LONGEST {
        out.push_str("...");
    }
    out
}

fn write_message(out: &mut String, message: &DynamicMessage) {
    let mut separator = "";
    for (field, value) in message.fields().filter(|(field, _)| !SECRET.contains(&field.name())) {
        if out.len() >= LONGEST {
            return;
        }
        let (name, kind) = (field.name(), field.kind());
        out.push_str(std::mem::replace(&mut separator, " "));
        match value {
            Value::Bytes(bytes) if name == SIZED => write_plain(out, format_args!("{name}_size:{}", bytes.len())),
            // The messages of a list are told together.
            Value::List(items) if matches!(kind, Kind::Message(_)) => {
                write_plain(out, format_args!("{name}:<"));
                for (number, item) in items.iter().enumerate() {
                    if out.len() >= LONGEST {
                        return;
                    }
                    out.push_str(if number > 0 { " " } else { "" });
                    write_inner(out, item);
                }
                out.push('>');
            }
            Value::List(items) => {
                for (number, item) in items.iter().enumerate() {
                    if out.len() >= LONGEST {
                        return;
                    }
                    write_plain(out, format_args!("{}{name}:", if number > 0 { " " } else { "" }));
                    write_scalar(out, &kind, item);
                }
            }
            Value::Message(_) => {
                write_plain(out, format_args!("{name}:<"));
                write_inner(out, value);
                out.push('>');
            }
            scalar => {
                write_plain(out, format_args!("{name}:"));
                write_scalar(out, &kind, scalar);
            }
        }
    }
}

fn write_inner(out: &mut String, value: &Value) {
    if let Value::Message(message) = value {
        write_message(out, message);
    }
}

fn write_scalar(out: &mut String, kind: &Kind, value: &Value) {
    match value {
        Value::Bytes(bytes) => write_quoted(out, bytes),
        Value::String(text) => write_quoted(out, text.as_bytes()),
        Value::Bool(v) => write_plain(out, v),
        Value::I32(v) => write_plain(out, v),
        Value::I64(v) => write_plain(out, v),
        Value::U32(v) => write_plain(out, v),
        Value::U64(v) => write_plain(out, v),
        Value::EnumNumber(n) => match kind.as_enum().and_then(|desc| desc.get_value(*n)) {
            Some(known) => out.push_str(known.name()),
            None => write_plain(out, n),
        },
        // No request has any of these.
        Value::F32(_) | Value::F64(_) | Value::Message(_) | Value::List(_) | Value::Map(_) => {}
    }
}

fn write_quoted(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for byte in bytes {
        if out.len() >= LONGEST {
            return;
        }
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => write_plain(out, format_args!("\\{other:03o}")),
        }
    }
    out.push('"');
}

fn write_plain(out: &mut String, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::compare::TargetUnion;
    use keelson_api::etcdserverpb::request_op::Request;
    use keelson_api::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
    use keelson_api::keelson::command::Action;
    use keelson_api::keelson::{Command, UserAdd};
    use prost::Message;

    use super::*;

    fn told(name: &str, message: &impl Message) -> String {
        of(name, message.encode_to_vec().into())
    }

    fn put() -> PutRequest {
        PutRequest { key: "a\0\"".into(), value: "secret".into(), lease: 7, ..PutRequest::default() }
    }

    #[test]
    fn values_are_told_by_their_sizes_at_every_depth() {
        assert_eq!(told("etcdserverpb.PutRequest", &put()), r#"key:"a\000\"" value_size:6 lease:7"#);
        let target_union = Some(TargetUnion::Value("secret".into()));
        let compare = Compare { key: "k".into(), target: 3, target_union, ..Compare::default() };
        let op = |request| RequestOp { request: Some(request) };
        let inner = TxnRequest { failure: vec![op(Request::RequestPut(put()))], ..TxnRequest::default() };
        let range = RangeRequest { key: "r".into(), limit: 1, ..RangeRequest::default() };
        let success = vec![op(Request::RequestRange(range)), op(Request::RequestTxn(inner))];
        let txn = TxnRequest { compare: vec![compare], success, ..TxnRequest::default() };
        let conditions = r#"compare:<target:VALUE key:"k" value_size:6>"#;
        let nested = r#"request_txn:<failure:<request_put:<key:"a\000\"" value_size:6 lease:7>>>"#;
        let expected = format!(r#"{conditions} success:<request_range:<key:"r" limit:1> {nested}>"#);
        assert_eq!(told("etcdserverpb.TxnRequest", &txn), expected);
    }

    #[test]
    fn a_command_is_told_without_passwords() {
        let action = Action::UserAdd(UserAdd { name: "ann".into(), password: "$2b$".into(), no_password: false });
        let command = Command { user: "root".into(), auth_revision: 3, action: Some(action), ..Command::default() };
        assert_eq!(told("keelson.Command", &command), r#"user:"root" auth_revision:3 user_add:<name:"ann">"#);
    }

    #[test]
    fn a_line_has_an_end() {
        let long = PutRequest { key: vec![0; 1 << 20].into(), ..PutRequest::default() };
        let line = told("etcdserverpb.PutRequest", &long);
        assert!(line.len() < LONGEST + 10 && line.ends_with("..."), "{}", line.len());
    }
}
