//! Answers to ranges of many keys: encoded from the rows while they are sent, a piece ahead of the
//! client, so that a list of any size costs the server a piece or two of memory.

use std::sync::Arc;

use bytes::Bytes;
use keelson_api::etcdserverpb::RangeResponse;
use keelson_api::{Code, Error};
use keelson_mvcc::{List, Query, ReadError};
use keelson_storage::StateBackend;
use prost::Message;
use tokio::task::JoinHandle;

use crate::grpc::{Pieces, Status};
use crate::member::{Member, read_error};

/// Bytes of a piece.
const PIECE: usize = 1 << 20;
/// gRPC's own limit of a message.
const MAX_MESSAGE: usize = i32::MAX as usize;

type Read = Result<(List<StateBackend>, Bytes), ReadError>;

/// The entries of a list, encoded, one piece ahead of who takes them.
pub struct Entries(Option<JoinHandle<Read>>);

impl Entries {
    /// Begins to read.
    pub fn of(mut list: List<StateBackend>) -> Self {
        Self(Some(tokio::task::spawn_blocking(move || list.next_piece(PIECE).map(|piece| (list, piece)))))
    }

    /// The next piece; empty at the end.
    pub async fn next(&mut self) -> Result<Bytes, Status> {
        let Some(ahead) = self.0.take() else { return Ok(Bytes::new()) };
        let (list, piece) = ahead.await.map_err(stopped)?.map_err(read_error)?;
        if !piece.is_empty() {
            *self = Self::of(list);
        }
        Ok(piece)
    }
}

/// Finds out what a query comes to.
pub async fn measure(member: &Arc<Member>, query: Query) -> Result<List<StateBackend>, Status> {
    let state = member.state.clone();
    Ok(tokio::task::spawn_blocking(move || state.store.list(&query)).await.map_err(stopped)?.map_err(read_error)?)
}

/// A `RangeResponse` that is being read.
pub struct LargeRange {
    encoded_len: usize,
    /// What comes before the keys.
    head: Option<Bytes>,
    entries: Entries,
    /// What comes after the keys.
    tail: Option<Bytes>,
}

fn stopped<E>(_: E) -> Status {
    Error::Stopped.into()
}

/// What a response has before its entries, and what it has after them.
pub fn ends(member: &Member, list: &List<StateBackend>) -> (Bytes, Bytes) {
    let header = member.header(list.current_revision());
    let head = RangeResponse { header, ..RangeResponse::default() };
    let more = list.keys() < list.count();
    let count = i64::try_from(list.count()).unwrap_or(i64::MAX);
    let tail = RangeResponse { more, count, ..RangeResponse::default() };
    (head.encode_to_vec().into(), tail.encode_to_vec().into())
}

/// Begins to read what `query` asks for.
pub async fn begin(member: &Arc<Member>, query: Query) -> Result<LargeRange, Status> {
    let list = measure(member, query).await?;
    let (head, tail) = ends(member, &list);
    let encoded_len = head.len() + list.encoded_len() + tail.len();
    if encoded_len > MAX_MESSAGE {
        let text = format!("grpc: trying to send message larger than max ({encoded_len} vs. {MAX_MESSAGE})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(LargeRange { encoded_len, head: Some(head), entries: Entries::of(list), tail: Some(tail) })
}

impl Pieces for LargeRange {
    fn encoded_len(&self) -> usize {
        self.encoded_len
    }

    async fn next(&mut self) -> Result<Bytes, Status> {
        if let Some(head) = self.head.take() {
            return Ok(head);
        }
        let piece = self.entries.next().await?;
        if !piece.is_empty() {
            return Ok(piece);
        }
        Ok(self.tail.take().unwrap_or_default())
    }
}
