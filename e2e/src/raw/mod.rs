//! Clients that misbehave: [`call`] sends gRPC calls that are wrong in some way over a connection
//! that is right, [`wire`] writes the bytes of a connection by hand.

pub mod call;
pub mod wire;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// No answer, and no closed connection, within this time means that there will be none.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A message with gRPC's frame header.
pub fn framed(message: &impl Message) -> Bytes {
    framed_as(0, None, &message.encode_to_vec())
}

/// Bytes behind a frame header that may lie: with any flag, and with another length than theirs.
pub fn framed_as(flag: u8, length: Option<u32>, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + bytes.len());
    out.put_u8(flag);
    out.put_u32(length.unwrap_or_else(|| u32::try_from(bytes.len()).expect("a test's message is small")));
    out.put_slice(bytes);
    out.freeze()
}
