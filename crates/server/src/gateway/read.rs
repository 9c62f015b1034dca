//! Requests: messages out of proto3's JSON, with the leniencies of etcd's library and its complaints.
//! Fields go by either of their names, unknown ones and unknown names of enums are passed over,
//! numbers may be text, bytes may be any kind of base64.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep messages may be nested. The decoder of the call gives up before that, and says so in its own words.
const DEEPEST: usize = 120;

/// Why there is no message.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// More may come that makes it whole.
    Incomplete,
    /// It is not JSON, or not JSON of the message.
    Wrong(String),
}

/// The first value of some JSON, and where it ends; `None` if there is none.
pub fn first(json: &[u8]) -> Result<Option<(&RawValue, usize)>, Unreadable> {
    let mut values = serde_json::Deserializer::from_slice(json).into_iter::<&RawValue>();
    match values.next() {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some((value, values.byte_offset()))),
        Some(Err(e)) if e.is_eof() => Err(Unreadable::Incomplete),
        Some(Err(e)) => Err(Unreadable::Wrong(format!("the request is not JSON: {e}"))),
    }
}

/// Reads a message of the given kind.
pub fn read(desc: &MessageDescriptor, value: &RawValue) -> Result<DynamicMessage, Unreadable> {
    Reader { text: value.get() }.message(desc, value.get(), 0).map_err(Unreadable::Wrong)
}

/// The names and values of an object, in order. All of them are parts of the text that they were read from.
struct Object<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

struct Reader<'a> {
    /// The whole of it, for places in complaints.
    text: &'a str,
}

type Read<T> = Result<T, String>;

impl<'a> Reader<'a> {
    /// Line and column of a part of the text.
    fn place(&self, part: &str) -> String {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        format!("line {line}:{column}")
    }

    fn wrong<T>(&self, part: &str, what: &str) -> Read<T> {
        Err(format!("proto: ({}): {what}", self.place(part)))
    }

    fn unexpected<T>(&self, part: &str) -> Read<T> {
        Err(format!("proto: syntax error ({}): unexpected token {}", self.place(part), token(part)))
    }

    fn message(&self, desc: &MessageDescriptor, json: &'a str, depth: usize) -> Read<DynamicMessage> {
        if depth >= DEEPEST {
            return Err("proto: exceeded max recursion depth".into());
        }
        if !json.starts_with('{') {
            return self.unexpected(json);
        }
        let Object(pairs) = serde_json::from_str(json).map_err(|e| format!("the request is not JSON: {e}"))?;
        let mut message = DynamicMessage::new(desc.clone());
        let (mut fields, mut oneofs) = (BTreeSet::new(), BTreeSet::new());
        for (name, value) in pairs {
            let (quoted, value) = (name.get(), value.get());
            let Some(name) = string(quoted) else { return self.unexpected(quoted) };
            let Some(field) = desc.get_field_by_json_name(&name).or_else(|| desc.get_field_by_name(&name)) else { continue };
            if !fields.insert(field.number()) {
                return self.wrong(quoted, &format!("duplicate field {quoted}"));
            }
            if value == "null" {
                continue;
            }
            if field.is_list() {
                let list = self.list(&field, value, depth)?;
                message.set_field(&field, Value::List(list));
                continue;
            }
            if let Some(oneof) = field.containing_oneof()
                && !oneofs.insert(oneof.full_name().to_owned())
            {
                return self.wrong(quoted, &format!("error parsing {quoted}, oneof {} is already set", oneof.full_name()));
            }
            if let Some(value) = self.single(&field, value, depth)? {
                message.set_field(&field, value);
            }
        }
        Ok(message)
    }

    fn list(&self, field: &FieldDescriptor, json: &'a str, depth: usize) -> Read<Vec<Value>> {
        if !json.starts_with('[') {
            return self.unexpected(json);
        }
        let items: Vec<&'a RawValue> = serde_json::from_str(json).map_err(|e| format!("the request is not JSON: {e}"))?;
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            list.extend(self.single(field, item.get(), depth)?);
        }
        Ok(list)
    }

    /// One value, nothing for a name that the enum does not have.
    fn single(&self, field: &FieldDescriptor, json: &'a str, depth: usize) -> Read<Option<Value>> {
        let value = match field.kind() {
            Kind::Message(desc) => return self.message(&desc, json, depth + 1).map(|m| Some(Value::Message(m))),
            Kind::Enum(desc) => match string(json) {
                Some(name) => return Ok(desc.get_value_by_name(&name).map(|v| Value::EnumNumber(v.number()))),
                None => integer(json).map(Value::EnumNumber),
            },
            Kind::Bool => match json {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                _ => None,
            },
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number(json).map(Value::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number(json).map(Value::I64),
            Kind::Uint32 | Kind::Fixed32 => number(json).map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => number(json).map(Value::U64),
            Kind::String => string(json).map(Value::String),
            Kind::Bytes => string(json).and_then(|text| bytes(&text)).map(|b| Value::Bytes(b.into())),
            // The API has none.
            Kind::Float | Kind::Double => None,
        };
        if value.is_some() {
            return Ok(value);
        }
        let kind = kind_name(&field.kind());
        self.wrong(json, &format!("invalid value for {kind} field {}: {}", field.json_name(), token(json)))
    }
}

/// What a value begins with, if it is not a single token itself.
fn token(json: &str) -> &str {
    if json.starts_with(['{', '[']) { &json[..1] } else { json }
}

const fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int32 => "int32",
        Kind::Sint32 => "sint32",
        Kind::Sfixed32 => "sfixed32",
        Kind::Int64 => "int64",
        Kind::Sint64 => "sint64",
        Kind::Sfixed64 => "sfixed64",
        Kind::Uint32 => "uint32",
        Kind::Fixed32 => "fixed32",
        Kind::Uint64 => "uint64",
        Kind::Fixed64 => "fixed64",
        Kind::Float => "float",
        Kind::Double => "double",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "enum",
        Kind::Message(_) => "message",
    }
}

fn string(json: &str) -> Option<String> {
    if json.starts_with('"') { serde_json::from_str(json).ok() } else { None }
}

/// A whole number, or text that is one.
fn number<T: TryFrom<i128>>(json: &str) -> Option<T> {
    match string(json) {
        Some(text) => integer(&text),
        None => integer(json),
    }
}

/// A whole number as JSON has them: 100, 1e2 and 100.0 are the same.
fn integer<T: TryFrom<i128>>(text: &str) -> Option<T> {
    /// No kind of number has as many digits.
    const LONGEST: usize = 38;
    let (is_negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let are_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let mut rest = digits.trim_end_matches('0');
    if rest.is_empty() {
        rest = "0";
    }
    // Zeros that were cut off come back with the point where the exponent puts it.
    let zeros = i64::from(exponent) - i64::try_from(fraction.len()).ok()?
        + if rest == "0" { 0 } else { i64::try_from(digits.len() - rest.len()).ok()? };
    let value: i128 = if rest == "0" {
        0
    } else {
        let zeros = usize::try_from(zeros).ok()?;
        if rest.len() + zeros > LONGEST {
            return None;
        }
        format!("{rest}{}", "0".repeat(zeros)).parse().ok()?
    };
    T::try_from(if is_negative { -value } else { value }).ok()
}

/// Bytes out of base64 of either alphabet, with its padding or without.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let padding = if text.len().is_multiple_of(4) { DecodePaddingMode::RequireCanonical } else { DecodePaddingMode::RequireNone };
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding).with_decode_allow_trailing_bits(true);
    let unbroken = text.replace(['\r', '\n'], "");
    GeneralPurpose::new(alphabet, config).decode(unbroken).ok()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::{PutRequest, RangeRequest, TxnRequest, compare, request_op};
    use prost::Message;

    use super::super::descriptors;
    use super::*;

    fn parse(name: &str, json: &str) -> Result<Vec<u8>, String> {
        let desc = descriptors::message(name);
        let (value, _) = first(json.as_bytes()).unwrap().unwrap();
        match read(&desc, value) {
            Ok(message) => Ok(message.encode_to_vec()),
            Err(Unreadable::Wrong(why)) => Err(why),
            Err(Unreadable::Incomplete) => panic!("{json} is incomplete"),
        }
    }

    fn range(json: &str) -> RangeRequest {
        RangeRequest::decode(&parse("etcdserverpb.RangeRequest", json).unwrap()[..]).unwrap()
    }

    #[test]
    fn fields_go_by_both_names_and_numbers_and_enums_have_several_forms() {
        let want = RangeRequest { key: "a".into(), range_end: "b".into(), limit: 100, sort_order: 2, ..Default::default() };
        for json in [
            r#"{"key":"YQ==","range_end":"Yg==","limit":100,"sort_order":"DESCEND"}"#,
            r#"{"key":"YQ","rangeEnd":"Yg","limit":"100","sortOrder":2}"#,
            r#" {"unknown":{"a":[1]},"key":"YQ==","range_end":"Yg==","limit":1e2,"sort_order":"DESCEND","sort_target":"NOPE"}"#,
            r#"{"key":"YQ==","range_end":"Yg==","limit":"100.0","sort_order":2,"serializable":null}"#,
        ] {
            assert_eq!(range(json), want, "{json}");
        }
        let bytes = |json| PutRequest::decode(&parse("etcdserverpb.PutRequest", json).unwrap()[..]).unwrap().value;
        assert_eq!(bytes(r#"{"value":"-_8="}"#), [0xfb, 0xff][..]);
        assert_eq!(bytes(r#"{"value":"+/8"}"#), [0xfb, 0xff][..]);
    }

    #[test]
    fn nested_messages_and_alternatives_are_read() {
        let json = r#"{"compare":[{"target":"CREATE","key":"a2V5","createRevision":"0"}],
                       "success":[{"requestPut":{"key":"a2V5"}}, {"request_txn":{}}]}"#;
        let txn = TxnRequest::decode(&parse("etcdserverpb.TxnRequest", json).unwrap()[..]).unwrap();
        assert_eq!(txn.compare[0].target_union, Some(compare::TargetUnion::CreateRevision(0)));
        assert!(matches!(txn.success[0].request, Some(request_op::Request::RequestPut(_))));
        assert_eq!(txn.success[1].request, Some(request_op::Request::RequestTxn(TxnRequest::default())));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let why = |json| parse("etcdserverpb.RangeRequest", json).unwrap_err();
        assert_eq!(why(r#"{"key":"!"}"#), r#"proto: (line 1:8): invalid value for bytes field key: "!""#);
        assert_eq!(why("{\n \"limit\": {}}"), "proto: (line 2:11): invalid value for int64 field limit: {");
        assert_eq!(why(r#"{"limit":1.5}"#), "proto: (line 1:10): invalid value for int64 field limit: 1.5");
        assert_eq!(why(r#"{"limit":1,"limit":1}"#), r#"proto: (line 1:12): duplicate field "limit""#);
        assert_eq!(why("[]"), "proto: syntax error (line 1:1): unexpected token [");
        let twice = r#"{"compare":[{"version":1,"value":""}]}"#;
        let why = parse("etcdserverpb.TxnRequest", twice).unwrap_err();
        assert_eq!(why, r#"proto: (line 1:26): error parsing "value", oneof etcdserverpb.Compare.target_union is already set"#);
        let deep = r#"{"success":[{"request_txn":"#.repeat(200) + "{}" + &"}]}".repeat(200);
        assert_eq!(parse("etcdserverpb.TxnRequest", &deep).unwrap_err(), "proto: exceeded max recursion depth");
    }

    #[test]
    fn values_are_told_apart_from_what_is_incomplete_and_what_is_none() {
        let two = br#" {"a":1} {"b":2}"#;
        let (value, end) = first(two).unwrap().unwrap();
        assert_eq!((value.get(), end), (r#"{"a":1}"#, 8));
        assert_eq!(first(&two[end..]).unwrap().unwrap().0.get(), r#"{"b":2}"#);
        assert!(first(b" \n").unwrap().is_none());
        assert_eq!(first(br#"{"a":"#).unwrap_err(), Unreadable::Incomplete);
        assert!(matches!(first(b"{]").unwrap_err(), Unreadable::Wrong(_)));
        assert!(matches!(first(b"\"\xff\"").unwrap_err(), Unreadable::Wrong(_)));
    }

    #[test]
    fn integers_are_exact() {
        for (text, want) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("1200e-2", Some(12)),
            ("0.5e1", Some(5)),
            ("1.50e1", Some(15)),
            ("0e99999", Some(0)),
            ("1e99999", None),
            ("1e-1", None),
            ("01", None),
            ("+1", None),
            ("1.", None),
            ("", None),
            (" 1", None),
        ] {
            assert_eq!(integer::<i64>(text), want, "{text}");
        }
        assert_eq!(number::<u64>("\"18446744073709551615\""), Some(u64::MAX));
    }
}
