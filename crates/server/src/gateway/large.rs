//! Answers that are too large to be held, as JSON: they are written while they arrive and are taken, so that a list of a
//! million keys costs a few pieces of memory, however slow its client is.

use std::fmt::Display;

use bytes::{Buf, Bytes, BytesMut};
use keelson_api::Code;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::status_of;
use super::write::write_value;
use crate::grpc::{Answers, Status};

/// Bytes of a message that are written at once.
const PIECE: usize = 64 << 10;
/// Messages within a message that are longer than this are written field by field, too.
const WHOLE: usize = 64 << 10;
/// Bytes that tell which field comes and how long it is, at most; of a number they are all of it.
const HEAD: usize = 20;

/// One message of an answer on its way to the client.
pub struct Large<'a> {
    answers: &'a mut Answers,
    writer: Writer,
    /// Bytes of it that are to come.
    left: usize,
}

impl<'a> Large<'a> {
    /// The message that has begun there, and will have so many bytes.
    pub fn new(answers: &'a mut Answers, kind: MessageDescriptor, length: usize) -> Self {
        Self { answers, writer: Writer::new(kind, length), left: length }
    }

    /// The next piece of its JSON; nothing after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        while self.left > 0 {
            let piece = self.answers.piece(self.left.min(PIECE)).await.map_err(status_of)?;
            self.left -= piece.len();
            let json = self.writer.write(&piece)?;
            if !json.is_empty() {
                return Ok(Some(json.into()));
            }
        }
        if self.writer.has_ended() { Ok(None) } else { Err(damaged("it ends within a field")) }
    }
}

fn damaged(why: impl Display) -> Status {
    Status::new(Code::Internal, format!("keelson: an answer could not be turned into JSON: {why}"))
}

/// Writes a message that comes in pieces. Its fields come in the order of their numbers, as whoever made it in this process
/// has written them, and none is a map: no answer of the gateway's has any.
struct Writer {
    /// The messages that have begun, each within the one before.
    levels: Vec<Level>,
    /// What has come and is not all of a field yet.
    rest: BytesMut,
    out: String,
}

struct Level {
    kind: MessageDescriptor,
    /// Bytes of it that are not written yet.
    left: usize,
    /// The field that was begun last.
    last: Option<FieldDescriptor>,
}

impl Writer {
    fn new(kind: MessageDescriptor, length: usize) -> Self {
        Self { levels: vec![Level { kind, left: length, last: None }], rest: BytesMut::new(), out: "{".into() }
    }

    fn has_ended(&self) -> bool {
        self.levels.is_empty()
    }

    /// Takes a piece; the JSON that can be written with it.
    fn write(&mut self, piece: &[u8]) -> Result<String, Status> {
        self.rest.extend_from_slice(piece);
        while let Some(level) = self.levels.last_mut() {
            if level.left == 0 {
                self.end();
                continue;
            }
            let Some(next) = Next::read(&self.rest, level.left)? else { break };
            if let Some((field, kind)) = next.to_enter(&level.kind) {
                level.left -= next.start + next.length;
                self.rest.advance(next.start);
                self.begin(&field);
                self.out.push('{');
                self.levels.push(Level { kind, left: next.length, last: None });
                continue;
            }
            let all = next.start + next.length;
            if self.rest.len() < all {
                break;
            }
            level.left -= all;
            let only = DynamicMessage::decode(level.kind.clone(), self.rest.split_to(all).freeze()).map_err(damaged)?;
            for (field, value) in only.fields() {
                let values = match value {
                    Value::List(items) => &items[..],
                    one => std::slice::from_ref(one),
                };
                for value in values {
                    self.begin(&field);
                    write_value(&mut self.out, &field.kind(), value);
                }
            }
        }
        Ok(std::mem::take(&mut self.out))
    }

    /// Writes what comes before a field, or before the next item of its list.
    fn begin(&mut self, field: &FieldDescriptor) {
        let Some(level) = self.levels.last_mut() else { return };
        if let Some(last) = level.last.replace(field.clone()) {
            if last == *field && field.is_list() {
                self.out.push(',');
                return;
            }
            self.out.push_str(if last.is_list() { "]," } else { "," });
        }
        self.out.push('"');
        self.out.push_str(field.name());
        self.out.push_str(if field.is_list() { "\":[" } else { "\":" });
    }

    /// Writes what ends a message.
    fn end(&mut self) {
        let was_list = self.levels.pop().and_then(|level| level.last).is_some_and(|last| last.is_list());
        self.out.push_str(if was_list { "]}" } else { "}" });
    }
}

/// The next field of a message.
struct Next {
    number: u32,
    wire: WireType,
    /// Where its contents begin.
    start: usize,
    /// How long they are.
    length: usize,
}

impl Next {
    /// Reads what comes before a field; nothing while more has to come for that. So many bytes belong to its message.
    fn read(bytes: &[u8], left: usize) -> Result<Option<Self>, Status> {
        if bytes.len() < left.min(HEAD) {
            return Ok(None);
        }
        let of_message = &bytes[..bytes.len().min(left)];
        let mut rest = of_message;
        let (number, wire) = decode_key(&mut rest).map_err(damaged)?;
        let after_key = of_message.len() - rest.len();
        let (start, length) = match wire {
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut rest).map_err(damaged)?).unwrap_or(usize::MAX);
                (of_message.len() - rest.len(), length)
            }
            WireType::Varint => {
                decode_varint(&mut rest).map_err(damaged)?;
                (after_key, of_message.len() - rest.len() - after_key)
            }
            WireType::SixtyFourBit => (after_key, 8),
            WireType::ThirtyTwoBit => (after_key, 4),
            WireType::StartGroup | WireType::EndGroup => return Err(damaged("it has a group")),
        };
        if length > left - start {
            return Err(damaged("a field is longer than its message"));
        }
        Ok(Some(Self { number, wire, start, length }))
    }

    /// The field and its kind, if it is a message that is too long to wait for all of it.
    fn to_enter(&self, within: &MessageDescriptor) -> Option<(FieldDescriptor, MessageDescriptor)> {
        if self.length <= WHOLE || self.wire != WireType::LengthDelimited {
            return None;
        }
        let field = within.get_field(self.number)?;
        match field.kind() {
            Kind::Message(kind) => Some((field, kind)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::response_op::Response;
    use keelson_api::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse};
    use keelson_api::mvccpb::KeyValue;
    use prost::Message;

    use super::super::{descriptors, write};
    use super::*;

    fn range(keys: usize, value: usize) -> RangeResponse {
        let header = Some(ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 0 });
        let kv = |n: usize| KeyValue { key: format!("k{n}").into(), value: vec![n as u8; value].into(), ..Default::default() };
        RangeResponse { header, kvs: (0..keys).map(kv).collect(), more: keys > 1, count: keys as i64 }
    }

    fn op(response: Response) -> ResponseOp {
        ResponseOp { response: Some(response) }
    }

    fn nested(range: RangeResponse) -> ResponseOp {
        let responses = vec![op(Response::ResponseRange(range))];
        op(Response::ResponseTxn(TxnResponse { responses, ..Default::default() }))
    }

    /// The JSON of a message that comes in pieces of so many bytes.
    fn in_pieces(kind: &MessageDescriptor, encoded: &[u8], bytes: usize) -> Result<String, Status> {
        let mut writer = Writer::new(kind.clone(), encoded.len());
        let mut json = String::new();
        for piece in encoded.chunks(bytes) {
            json += &writer.write(piece)?;
            assert!(writer.rest.len() <= WHOLE + bytes + HEAD, "too much is held");
        }
        assert!(writer.has_ended());
        Ok(json)
    }

    #[test]
    fn a_message_is_the_same_however_it_is_cut() {
        let small = TxnResponse {
            succeeded: true,
            responses: vec![
                op(Response::ResponsePut(PutResponse::default())),
                op(Response::ResponseRange(range(3, 10))),
                nested(range(0, 0)),
            ],
            ..Default::default()
        };
        let [txn, ranges] = ["TxnResponse", "RangeResponse"].map(|name| descriptors::message(&format!("etcdserverpb.{name}")));
        for (kind, encoded) in [(&txn, small.encode_to_vec()), (&ranges, range(40, 3).encode_to_vec())] {
            let whole = write::write(&DynamicMessage::decode(kind.clone(), &encoded[..]).unwrap());
            for bytes in 1..=encoded.len() {
                assert_eq!(in_pieces(kind, &encoded, bytes).unwrap(), whole, "{bytes}");
            }
        }
    }

    #[test]
    fn long_messages_within_a_message_are_entered() {
        let long = TxnResponse {
            responses: vec![
                op(Response::ResponseRange(range(2000, 100))),
                op(Response::ResponsePut(PutResponse { prev_kv: range(1, 60_000).kvs.pop(), ..Default::default() })),
                nested(range(3000, 50)),
            ],
            ..Default::default()
        };
        let (kind, encoded) = (descriptors::message("etcdserverpb.TxnResponse"), long.encode_to_vec());
        let whole = write::write(&DynamicMessage::decode(kind.clone(), &encoded[..]).unwrap());
        for bytes in [1000, 16 << 10, PIECE] {
            assert!(in_pieces(&kind, &encoded, bytes).unwrap() == whole, "{bytes}");
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let kind = descriptors::message("etcdserverpb.RangeResponse");
        // A field longer than its message, a group, and a number that does not end.
        for damaged in [&[0x12, 50, 1][..], &[0x0b, 1, 2, 3, 4], &[0x20, 0xff, 0xff, 0xff]] {
            let mut writer = Writer::new(kind.clone(), damaged.len());
            assert!(writer.write(damaged).is_err(), "{damaged:?}");
        }
    }
}
