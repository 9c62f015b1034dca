//! Lists as their entries go by: a client that makes no objects of what it is sent, so that what is
//! measured is the server.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Request, header};
use keelson_api::etcdserverpb::RangeRequest;
use prost::Message;
use tokio::net::TcpStream;

/// A frame header of gRPC: a flag and a length.
const FRAME: usize = 5;
/// Fields of a `RangeResponse`, and the only one of a `RangeStreamResponse`, as they begin.
const KVS: u8 = 0x12;
const RANGE_RESPONSE: u8 = 0x0a;

pub struct Lister {
    requests: SendRequest<Bytes>,
    authority: String,
}

impl Lister {
    pub async fn connect(endpoint: &str) -> Result<Self> {
        let authority = endpoint.trim_start_matches("http://").to_owned();
        let socket = TcpStream::connect(&authority).await?;
        socket.set_nodelay(true)?;
        // As the other client has it.
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(4 << 20).initial_connection_window_size(8 << 20);
        let (requests, connection) = builder.handshake(socket).await?;
        tokio::spawn(connection);
        Ok(Lister { requests, authority })
    }

    /// Lists by `Range`, or by `RangeStream`; answers how many keys came.
    pub async fn list(&self, request: RangeRequest, streamed: bool) -> Result<u64> {
        // Beside the connection's own task, so that pieces need not go from thread to thread.
        let (requests, authority) = (self.requests.clone(), self.authority.clone());
        tokio::spawn(list(requests, authority, request, streamed)).await?
    }
}

async fn list(requests: SendRequest<Bytes>, authority: String, request: RangeRequest, streamed: bool) -> Result<u64> {
    let method = if streamed { "RangeStream" } else { "Range" };
    let head = Request::post(format!("http://{authority}/etcdserverpb.KV/{method}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())?;
    let mut requests = requests.ready().await?;
    let (response, mut body) = requests.send_request(head, false)?;
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(request.encoded_len())?);
    request.encode(&mut message)?;
    body.send_data(message.freeze(), true)?;
    let mut answer = tokio::time::timeout(Duration::from_secs(60), response).await??.into_body();
    let mut entries = Entries::of(streamed);
    while let Some(piece) = answer.data().await {
        let piece = piece?;
        answer.flow_control().release_capacity(piece.len())?;
        entries.read(&piece)?;
    }
    let trailers = answer.trailers().await?.context("an answer without a status")?;
    ensure!(trailers.get("grpc-status").is_some_and(|s| s == "0"), "refused: {trailers:?}");
    ensure!(entries.left == 0 && entries.head.is_empty(), "an answer that is cut off");
    Ok(entries.found)
}

/// Counts the entries in the messages of a body that arrives in pieces.
struct Entries {
    streamed: bool,
    found: u64,
    /// What has arrived of a header that is not complete.
    head: Vec<u8>,
    /// Bytes of the message that are still to come.
    left: usize,
    /// The next field is that of a `RangeStreamResponse`.
    outside: bool,
    /// Bytes that are of no interest.
    skip: usize,
}

impl Entries {
    fn of(streamed: bool) -> Self {
        Entries { streamed, found: 0, head: Vec::new(), left: 0, outside: false, skip: 0 }
    }

    fn read(&mut self, mut piece: &[u8]) -> Result<()> {
        loop {
            let skipped = self.skip.min(piece.len());
            (self.skip, piece) = (self.skip - skipped, &piece[skipped..]);
            let Some((byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            self.head.push(*byte);
            if self.left > 0 {
                self.field()?;
            } else if self.head.len() == FRAME {
                self.left = u32::from_be_bytes(self.head[1..].try_into()?) as usize;
                self.outside = self.streamed;
                self.head.clear();
            }
        }
    }

    /// Takes a field's header, if all of it is there.
    fn field(&mut self) -> Result<()> {
        let Some((tag, value)) = self.head.split_first() else { return Ok(()) };
        let Some(value) = varint(value)? else { return Ok(()) };
        let value_of_its_own = match tag & 7 {
            0 => 0,
            2 => usize::try_from(value)?,
            other => bail!("a field of wire type {other}"),
        };
        if self.outside && *tag == RANGE_RESPONSE {
            self.outside = false;
        } else {
            self.found += u64::from(*tag == KVS);
            self.skip = value_of_its_own;
        }
        let taken = self.head.len() + self.skip;
        self.left = self.left.checked_sub(taken).context("a field beyond the end of its message")?;
        self.head.clear();
        Ok(())
    }
}

/// A complete number of the wire format, if it is one.
fn varint(bytes: &[u8]) -> Result<Option<u64>> {
    ensure!(bytes.len() <= 10, "a number that is too long");
    if bytes.last().is_none_or(|last| last & 0x80 != 0) {
        return Ok(None);
    }
    Ok(Some(bytes.iter().rev().fold(0, |n, b| n << 7 | u64::from(b & 0x7f))))
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::{RangeResponse, RangeStreamResponse, ResponseHeader};
    use keelson_api::mvccpb::KeyValue;

    use super::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        [&[0][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat()
    }

    #[test]
    fn entries_are_counted_however_the_answer_is_cut() {
        let kv = |n: usize| KeyValue { key: vec![b'k'; n].into(), value: vec![b'v'; n * 100].into(), ..KeyValue::default() };
        let header = Some(ResponseHeader { revision: 300, ..ResponseHeader::default() });
        let whole = RangeResponse { header, kvs: (0..7).map(kv).collect(), more: true, count: 700 };
        let part = RangeStreamResponse { range_response: Some(whole.clone()) };
        let streamed = [framed(&part), framed(&RangeStreamResponse::default()), framed(&part)].concat();
        for (body, is_streamed, expected) in [(framed(&whole), false, 7), (streamed, true, 14)] {
            for cut in [1, 2, 3, 64, body.len()] {
                let mut entries = Entries::of(is_streamed);
                body.chunks(cut).try_for_each(|piece| entries.read(piece)).unwrap();
                assert_eq!((entries.found, entries.left, entries.head.len()), (expected, 0, 0));
            }
        }
    }
}
