//! The sending half of a streaming call. It waits for the client's window, so a client that does
//! not read holds back its own stream and nothing else.

use std::future::{Future, poll_fn};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;
use keelson_api::Code;
use prometheus::IntCounter;
use prost::Message;

use super::frame::{frame, put_header};
use super::status::Status;

/// Bytes that are handed to the connection at once.
const PIECE: usize = 256 << 10;

/// A client that takes nothing for so long has its answer cut off: it holds resources of the store.
const STALLED: Duration = Duration::from_secs(60);

/// The answer of a unary call.
pub enum Answer<R, P> {
    /// One message.
    Whole(R),
    /// One message that is made while it is sent.
    Pieces(P),
}

/// An encoded message that is never held whole.
pub trait Pieces: Send {
    /// Length of all pieces together.
    fn encoded_len(&self) -> usize;
    /// The next piece; empty at the end.
    fn next(&mut self) -> impl Future<Output = Result<Bytes, Status>> + Send;
}

/// Sends messages, then a status.
pub struct Sender {
    body: SendStream<Bytes>,
    bytes: Option<IntCounter>,
    told: Option<Told>,
}

/// The text of what a call was refused with, for who wants to know it when the call has ended.
#[derive(Clone, Default)]
pub struct Told(Arc<OnceLock<String>>);

impl Told {
    pub(super) fn tell(&self, status: &Status) {
        // The first time is the end.
        let _ = self.0.set(status.message.clone());
    }

    /// What it was, if it was refused.
    pub fn text(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// The client is gone.
#[derive(Debug)]
pub struct Gone;

impl Sender {
    /// Sends on a stream that has begun.
    pub const fn new(body: SendStream<Bytes>) -> Self {
        Self { body, bytes: None, told: None }
    }

    pub(super) fn telling(self, told: Option<Told>) -> Self {
        Self { told, ..self }
    }

    /// Counts, if that is wanted, the bytes of what is sent.
    pub fn counted_by(self, bytes: Option<IntCounter>) -> Self {
        Self { bytes, ..self }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &impl Message) -> Result<(), Gone> {
        self.send_framed(frame(message)).await
    }

    /// Sends a message that has its frame header already.
    pub async fn send_framed(&mut self, mut rest: Bytes) -> Result<(), Gone> {
        if let Some(bytes) = &self.bytes {
            bytes.inc_by(rest.len() as u64);
        }
        while !rest.is_empty() {
            self.body.reserve_capacity(rest.len().min(PIECE));
            let room = loop {
                match self.body.capacity() {
                    0 => match poll_fn(|cx| self.body.poll_capacity(cx)).await {
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return Err(Gone),
                    },
                    room => break room,
                }
            };
            let piece = rest.split_to(room.min(rest.len()));
            self.body.send_data(piece, false).map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// The same, giving up on a client that takes nothing for too long.
    pub async fn send_framed_in_time(&mut self, bytes: Bytes) -> Result<(), Gone> {
        tokio::time::timeout(STALLED, self.send_framed(bytes)).await.map_err(|_| Gone)?
    }

    /// Sends one message in pieces; the inner error is what kept it from being made.
    pub async fn send_pieces(&mut self, mut pieces: impl Pieces) -> Result<Result<(), Status>, Gone> {
        let mut header = BytesMut::new();
        put_header(&mut header, pieces.encoded_len());
        let mut piece = header.freeze();
        while !piece.is_empty() {
            self.send_framed_in_time(piece).await?;
            piece = match pieces.next().await {
                Ok(piece) => piece,
                Err(status) => return Ok(Err(status)),
            };
        }
        Ok(Ok(()))
    }

    /// Ends what is sent, without a status.
    pub fn close(mut self) {
        // A failed send means that the other side is gone; a caller learns that from what it is answered.
        let _ = self.body.send_data(Bytes::new(), true);
    }

    /// Waits until the client has reset the stream.
    pub async fn reset(&mut self) {
        // Whatever the reason, the stream is over.
        let _ = poll_fn(|cx| self.body.poll_reset(cx)).await;
    }

    /// Ends the stream; answers the code for the metrics.
    pub fn finish(mut self, result: Result<(), &Status>) -> Option<Code> {
        if let (Some(told), Err(status)) = (&self.told, result) {
            told.tell(status);
        }
        let mut trailers = HeaderMap::with_capacity(2);
        Status::write(result, &mut trailers);
        // A failed send means that the client is gone.
        let _ = self.body.send_trailers(trailers);
        result.err().map(|s| s.code)
    }
}
