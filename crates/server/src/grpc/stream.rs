//! The sending half of a streaming call. It waits for the client's window, so a client that does
//! not read holds back its own stream and nothing else.

use std::future::poll_fn;

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use keelson_api::Code;
use prost::Message;

use super::frame::frame;
use super::status::Status;

/// Bytes that are handed to the connection at once.
const PIECE: usize = 256 << 10;

/// Sends messages, then a status.
pub struct Sender {
    body: SendStream<Bytes>,
}

/// The client is gone.
#[derive(Debug)]
pub struct Gone;

impl Sender {
    pub(super) const fn new(body: SendStream<Bytes>) -> Self {
        Self { body }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &impl Message) -> Result<(), Gone> {
        self.send_framed(frame(message)).await
    }

    /// Sends a message that has its frame header already.
    pub async fn send_framed(&mut self, mut rest: Bytes) -> Result<(), Gone> {
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

    /// Waits until the client has reset the stream.
    pub async fn reset(&mut self) {
        // Whatever the reason, the stream is over.
        let _ = poll_fn(|cx| self.body.poll_reset(cx)).await;
    }

    /// Ends the stream; answers the code for the metrics.
    pub fn finish(mut self, result: Result<(), &Status>) -> Option<Code> {
        let mut trailers = HeaderMap::with_capacity(2);
        Status::write(result, &mut trailers);
        // A failed send means that the client is gone.
        let _ = self.body.send_trailers(trailers);
        result.err().map(|s| s.code)
    }
}
