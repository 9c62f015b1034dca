//! A range in pieces: all at one revision, none much larger than a request may be. Only the last one
//! has the header, the count and whether there is more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use keelson_api::Code;
use keelson_api::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use keelson_mvcc::Query;
use keelson_state as state;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::large_range::{self, Entries};
use crate::grpc::{Call, FrameError, Gone, MessageReader, Respond, Sender, Status, put_header};
use crate::member::{Member, State};
use crate::users::Asker;

/// Key of field 1 of a `RangeStreamResponse`: the `RangeResponse`.
const RANGE_RESPONSE: u8 = 0x0a;
/// Keys in a piece of an answer without values.
const KEYS: usize = 10_000;

pub async fn serve(member: Arc<Member>, call: &Call, mut reader: MessageReader, mut respond: Respond) -> Option<Code> {
    let begun = Instant::now();
    let request: RangeRequest = match reader.next().await {
        Ok(Some(request)) => request,
        Ok(None) | Err(FrameError::Gone) => return Some(Code::Canceled),
        Err(FrameError::Refused(status)) => return respond.refuse(&status),
    };
    let asker = match admit(&member, call, &request).await {
        Ok(asker) => asker,
        Err(status) => return respond.refuse(&status),
    };
    member.metrics.ranges.inc();
    let Ok(mut sender) = respond.stream() else { return Some(Code::Canceled) };
    let left = call.timeout.map_or(Duration::MAX, |t| t.saturating_sub(begun.elapsed()));
    match tokio::time::timeout(left, send(&member, request, &mut sender)).await {
        Ok(Ok(true)) => match member.still_holds(asker.as_ref()) {
            Ok(()) => sender.finish(Ok(())),
            Err(e) => sender.finish(Err(&e.into())),
        },
        Ok(Ok(false)) => Some(Code::Canceled),
        Ok(Err(status)) => sender.finish(Err(&status)),
        Err(_) => Some(Code::DeadlineExceeded),
    }
}

async fn admit(member: &Member, call: &Call, request: &RangeRequest) -> Result<Option<Asker>, Status> {
    state::check_range(request)?;
    state::check_range_stream(request).map_err(|text| Status::new(Code::Unimplemented, text))?;
    if !request.serializable {
        member.read_barrier().await?;
    }
    Ok(member.reader(call, request).await?)
}

/// Answers false when the client has gone away.
async fn send(member: &Arc<Member>, request: RangeRequest, sender: &mut Sender) -> Result<bool, Status> {
    match state::plain_query(&request) {
        Some(query) => send_list(member, query, sender).await,
        // Keys or their number only: small enough to be found first and cut afterwards.
        None => send_whole(member, request, sender).await,
    }
}

async fn send_list(member: &Arc<Member>, query: Query, sender: &mut Sender) -> Result<bool, Status> {
    let (outline, mut entries) = Entries::begin(member, query).await?;
    let (head, tail) = large_range::ends(member, &outline);
    let mut piece = entries.next().await?;
    loop {
        let next = entries.next().await?;
        if next.is_empty() {
            break;
        }
        if send_parts(sender, [std::mem::replace(&mut piece, next)]).await.is_err() {
            return Ok(false);
        }
    }
    // A client that has got as many keys as it asked for reads no further: the header comes with the last of them.
    Ok(send_parts(sender, [head, piece, tail]).await.is_ok())
}

/// Sends a `RangeResponse`, given in encoded parts, as one message.
async fn send_parts<const N: usize>(sender: &mut Sender, parts: [Bytes; N]) -> Result<(), Gone> {
    sender.send_framed_in_time(start(parts.iter().map(Bytes::len).sum())).await?;
    for part in parts {
        sender.send_framed_in_time(part).await?;
    }
    Ok(())
}

async fn send_whole(member: &Arc<Member>, request: RangeRequest, sender: &mut Sender) -> Result<bool, Status> {
    let read = move |s: &State, mode| state::range_response(&request, |q| s.store.range(q, mode));
    let mut whole = member.read(read).await?;
    whole.header = member.complete(whole.header);
    while whole.kvs.len() > KEYS {
        let rest = whole.kvs.split_off(KEYS);
        let kvs = std::mem::replace(&mut whole.kvs, rest);
        let range_response = Some(RangeResponse { kvs, ..RangeResponse::default() });
        if sender.send(&RangeStreamResponse { range_response }).await.is_err() {
            return Ok(false);
        }
    }
    Ok(sender.send(&RangeStreamResponse { range_response: Some(whole) }).await.is_ok())
}

/// What comes before a `RangeResponse` of so many bytes: the frame's header, and the field's.
fn start(inner: usize) -> Bytes {
    let length = 1 + encoded_len_varint(inner as u64) + inner;
    let mut out = BytesMut::with_capacity(16);
    put_header(&mut out, length);
    out.put_u8(RANGE_RESPONSE);
    encode_varint(inner as u64, &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use keelson_api::mvccpb::KeyValue;
    use prost::Message;

    use super::*;

    #[test]
    fn entries_and_what_comes_before_them_are_a_message() {
        let kv = KeyValue { key: "k".into(), value: vec![7; 300].into(), ..KeyValue::default() };
        let response = RangeResponse { kvs: vec![kv; 3], ..RangeResponse::default() };
        let encoded = response.encode_to_vec();
        let frame = [&start(encoded.len())[..], &encoded].concat();
        assert_eq!(frame[1..5], u32::try_from(frame.len() - 5).unwrap().to_be_bytes());
        let message = RangeStreamResponse::decode(&frame[5..]).unwrap();
        assert_eq!(message.range_response, Some(response));
    }
}
