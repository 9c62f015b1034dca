//! A range in pieces: all at the revision of the first, none much larger than a request may be.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use keelson_api::Code;
use keelson_api::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use keelson_mvcc::{KeyRange, Query, ReadError, ReadMode};
use keelson_state as state;
use prost::Message;

use crate::grpc::{FrameError, MessageReader, Respond, Sender, Status};
use crate::member::{Member, State, read_error};

/// Keys in the first piece.
const FIRST_PIECE: i64 = 10;

pub async fn serve(member: Arc<Member>, mut reader: MessageReader, mut respond: Respond) -> Option<Code> {
    let request: RangeRequest = match reader.next().await {
        Ok(Some(request)) => request,
        Ok(None) | Err(FrameError::Gone) => return Some(Code::Canceled),
        Err(FrameError::Refused(status)) => return respond.refuse(&status),
    };
    if let Err(status) = admit(&member, &request).await {
        return respond.refuse(&status);
    }
    member.metrics.ranges.inc();
    let Ok(mut sender) = respond.stream() else { return Some(Code::Canceled) };
    match send_pieces(&member, request, &mut sender).await {
        Ok(true) => sender.finish(Ok(())),
        Ok(false) => Some(Code::Canceled),
        Err(status) => sender.finish(Err(&status)),
    }
}

async fn admit(member: &Member, request: &RangeRequest) -> Result<(), Status> {
    state::check_range(request)?;
    state::check_range_stream(request).map_err(|text| Status::new(Code::Unimplemented, text))?;
    if !request.serializable {
        member.read_barrier().await?;
    }
    Ok(())
}

/// Answers false when the client has gone away.
async fn send_pieces(member: &Arc<Member>, request: RangeRequest, sender: &mut Sender) -> Result<bool, Status> {
    let mut pieces = Pieces::new(request, member.config.max_request_bytes);
    while !pieces.done {
        let state = member.state.clone();
        let read = tokio::task::spawn_blocking(move || pieces.next(&state).map(|response| (pieces, response)));
        let (rest, mut response) =
            read.await.map_err(|_| Status::from(keelson_api::Error::Stopped))?.map_err(|e| Status::from(read_error(e)))?;
        pieces = rest;
        if response.header.is_some() {
            response.header = member.complete(response.header);
        }
        if sender.send(&RangeStreamResponse { range_response: Some(response) }).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Walks through the range piece by piece.
struct Pieces {
    request: RangeRequest,
    /// Keys that may still be sent.
    left: i64,
    sent: i64,
    /// Revision of the store when the walk began.
    header_revision: i64,
    target_bytes: usize,
    done: bool,
}

impl Pieces {
    fn new(mut request: RangeRequest, target_bytes: usize) -> Self {
        // A negative limit is no limit, as in a plain range.
        let left = if request.limit <= 0 { i64::MAX } else { request.limit };
        request.limit = FIRST_PIECE.min(left);
        Self { request, left, sent: 0, header_revision: 0, target_bytes, done: false }
    }

    fn next(&mut self, state: &State) -> Result<RangeResponse, ReadError> {
        let read = |q: &Query| state.store.range(q, ReadMode::Blocking);
        if self.request.count_only {
            self.done = true;
            return state::range_response(&self.request, read);
        }
        // Counting is left to the last piece, which is the only one that tells.
        let uncounted = |q: &Query| read(&Query { count: false, ..q.clone() });
        let mut piece = state::range_response(&self.request, uncounted)?;
        if self.header_revision == 0 {
            self.header_revision = piece.header.as_ref().map_or(0, |h| h.revision);
            if self.request.revision == 0 {
                self.request.revision = self.header_revision;
            }
        }
        let keys = i64::try_from(piece.kvs.len()).unwrap_or(i64::MAX);
        self.sent += keys;
        self.left -= keys;
        self.done = !piece.more || self.left == 0;
        let mut out = RangeResponse::default();
        if piece.more
            && let Some(last) = piece.kvs.last()
        {
            let mut next = BytesMut::from(&last.key[..]);
            next.put_u8(0);
            self.request.key = next.freeze();
        }
        if self.done {
            out.header =
                piece.header.take().map(|h| keelson_api::etcdserverpb::ResponseHeader { revision: self.header_revision, ..h });
            out.more = piece.more;
            out.count = self.sent + if piece.more { self.count_rest(state)? } else { 0 };
        } else {
            self.adjust(piece.encoded_len());
        }
        out.kvs = piece.kvs;
        Ok(out)
    }

    fn count_rest(&self, state: &State) -> Result<i64, ReadError> {
        let query = Query {
            range: KeyRange::from_api(&self.request.key, &self.request.range_end),
            revision: self.request.revision,
            limit: 0,
            keys_only: true,
            count_only: true,
            count: true,
        };
        Ok(i64::try_from(state.store.range(&query, ReadMode::Blocking)?.count).unwrap_or(i64::MAX))
    }

    /// Doubles or halves the piece so that it stays near the target.
    fn adjust(&mut self, bytes: usize) {
        let limit = match bytes {
            b if b < self.target_bytes / 2 => self.request.limit.saturating_mul(2),
            b if b > self.target_bytes.saturating_mul(2) => self.request.limit / 2,
            _ => self.request.limit,
        };
        self.request.limit = limit.max(1).min(self.left);
    }
}
