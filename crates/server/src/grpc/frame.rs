//! gRPC's framing: a flag, a length, a message. Reads messages off an HTTP/2 stream with a limit on
//! their size, giving flow control credit back as it goes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use keelson_api::Code;
use prometheus::IntCounter;
use prost::{DecodeError, Message};

use super::encoding::{Encoding, gunzip};
use super::half::{Half, Room};
use super::status::Status;

/// Bytes before a message.
pub(super) const HEADER: usize = 5;
/// Bytes of a decoder's complaint that are passed on: it names each level of what it could not read.
const MAX_COMPLAINT: usize = 200;

/// Why no message could be read.
#[derive(Debug)]
pub enum FrameError {
    /// The client went away or broke the protocol below gRPC; nobody listens for an answer.
    Gone,
    /// The client sent something that is answered with a status.
    Refused(Status),
}

/// What else a message that cannot be decoded may be called.
pub type Explain = fn(&[u8], &DecodeError) -> Option<Status>;

/// Reads messages from a request body.
pub struct MessageReader {
    body: RecvStream,
    frames: Frames,
    explain: Explain,
    bytes: Option<IntCounter>,
    /// What is held of a message that has only half arrived, where that is limited.
    half: Option<Half>,
}

impl MessageReader {
    /// Reads from `body`; longer messages than `max_bytes` are refused, unpacked as well as packed.
    pub fn new(body: RecvStream, encoding: Encoding, max_bytes: usize) -> Self {
        let frames = Frames { buffer: BytesMut::new(), encoding, max_bytes };
        Self { body, frames, explain: |_, _| None, bytes: None, half: None }
    }

    /// Lets messages that have only half arrived have a share of that room, and of time.
    pub fn within(self, room: &'static Room) -> Self {
        Self { half: Some(room.share()), ..self }
    }

    /// Asks `explain` about messages that cannot be decoded.
    pub fn explained_by(self, explain: Explain) -> Self {
        Self { explain, ..self }
    }

    /// Counts, if that is wanted, the bytes of what is read.
    pub fn counted_by(self, bytes: Option<IntCounter>) -> Self {
        Self { bytes, ..self }
    }

    /// What came after the last message.
    pub(super) async fn trailers(&mut self) -> Option<http::HeaderMap> {
        self.body.trailers().await.ok().flatten()
    }

    /// The next message, `None` at the end of the stream.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        Ok(self.next_with_bytes().await?.map(|(message, _)| message))
    }

    /// The same, with the bytes that it was read from.
    pub(super) async fn next_with_bytes<M: Message + Default>(&mut self) -> Result<Option<(M, Bytes)>, FrameError> {
        loop {
            if let Some(message) = self.frames.next(self.explain)? {
                if let Some(half) = &mut self.half {
                    half.give_back();
                }
                return Ok(Some(message));
            }
            if !self.receive().await? {
                return self.frames.end().map(|()| None);
            }
        }
    }

    /// Takes what comes next; false at the end of the stream.
    async fn receive(&mut self) -> Result<bool, FrameError> {
        let chunk = match &mut self.half {
            // Nearly always a message comes in one piece, and is never half here.
            Some(half) if !self.frames.buffer.is_empty() => {
                half.hold(self.frames.buffer.len()).map_err(FrameError::Refused)?;
                half.in_time(self.body.data()).await.map_err(FrameError::Refused)?
            }
            Some(_) | None => self.body.data().await,
        };
        match chunk {
            Some(Ok(chunk)) => {
                // The credit only fails to be released when the stream is gone already.
                let _ = self.body.flow_control().release_capacity(chunk.len());
                if let Some(bytes) = &self.bytes {
                    bytes.inc_by(chunk.len() as u64);
                }
                self.frames.push(chunk);
                Ok(true)
            }
            Some(Err(_)) => Err(FrameError::Gone),
            None => Ok(false),
        }
    }

    /// Waits for the next message and tells its length; `None` at the end of the stream.
    pub(super) async fn length(&mut self) -> Result<Option<usize>, FrameError> {
        loop {
            if let Some(length) = self.frames.length() {
                return Ok(Some(length));
            }
            if !self.receive().await? {
                return self.frames.end().map(|()| None);
            }
        }
    }

    /// Goes on to the contents of a message of which the length is known, to read it in pieces.
    pub(super) fn enter(&mut self) {
        self.frames.buffer.advance(HEADER);
    }

    /// Up to so many bytes of what follows.
    pub(super) async fn piece(&mut self, max_bytes: usize) -> Result<Bytes, FrameError> {
        while self.frames.buffer.is_empty() {
            if !self.receive().await? {
                return Err(FrameError::Refused(Status::new(Code::Unknown, "unexpected EOF")));
            }
        }
        let length = self.frames.buffer.len().min(max_bytes);
        Ok(self.frames.buffer.split_to(length).freeze())
    }
}

/// Puts messages together from pieces as they arrive. It never holds more than one message and the
/// piece that completed it.
struct Frames {
    buffer: BytesMut,
    encoding: Encoding,
    max_bytes: usize,
}

impl Frames {
    fn push(&mut self, chunk: Bytes) {
        if self.buffer.is_empty() {
            // The whole message came in one piece, as it nearly always does: keep it.
            self.buffer = chunk.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next message and its bytes, `None` until all of it is here.
    fn next<M: Message + Default>(&mut self, explain: Explain) -> Result<Option<(M, Bytes)>, FrameError> {
        let Some(bytes) = self.split()? else { return Ok(None) };
        let refused = |e: DecodeError| FrameError::Refused(explain(&bytes, &e).unwrap_or_else(|| unreadable(&e)));
        match M::decode(bytes.clone()) {
            Ok(message) => Ok(Some((message, bytes))),
            Err(e) => Err(refused(e)),
        }
    }

    /// The stream has ended; an error if that is in the middle of a message.
    fn end(&self) -> Result<(), FrameError> {
        match self.buffer.len() {
            0 => Ok(()),
            // etcd's library passes on what its reader says, without a code of its own.
            1..HEADER => Err(FrameError::Refused(Status::new(Code::Unknown, "EOF"))),
            _ => Err(FrameError::Refused(Status::new(Code::Unknown, "unexpected EOF"))),
        }
    }

    /// What the next message says of its length, once that is here.
    fn length(&self) -> Option<usize> {
        let (&[_, ref length @ ..], _) = self.buffer.split_first_chunk::<HEADER>()?;
        Some(u32::from_be_bytes(*length) as usize)
    }

    fn split(&mut self) -> Result<Option<Bytes>, FrameError> {
        let (Some(length), Some(flag)) = (self.length(), self.buffer.first().copied()) else { return Ok(None) };
        if length > self.max_bytes {
            let text = format!("grpc: received message larger than max ({length} vs. {})", self.max_bytes);
            return Err(FrameError::Refused(Status::new(Code::ResourceExhausted, text)));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        // Nothing of a message that came alone is kept once it has been read, however long its call takes.
        let is_all = self.buffer.len() == length;
        let message = if is_all { std::mem::take(&mut self.buffer) } else { self.buffer.split_to(length) }.freeze();
        let refused = |text: String| Err(FrameError::Refused(Status::new(Code::Internal, text)));
        match (flag, self.encoding) {
            (0, _) => Ok(Some(message)),
            (1, Encoding::Gzip) => gunzip(&message, self.max_bytes).map(Some).map_err(FrameError::Refused),
            (1, Encoding::Identity) => refused("grpc: compressed flag set with identity or empty encoding".into()),
            (other, _) => refused(format!("grpc: received unexpected payload format {other}")),
        }
    }
}

fn unreadable(e: &DecodeError) -> Status {
    let complaint = e.to_string();
    let end = complaint.floor_char_boundary(MAX_COMPLAINT);
    Status::new(Code::Internal, format!("grpc: error unmarshalling request: {}", &complaint[..end]))
}

/// A message with its frame header, in one piece.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEADER + length);
    put_header(&mut out, length);
    message.encode_raw(&mut out);
    out.freeze()
}

/// Writes a frame header.
pub fn put_header(out: &mut BytesMut, length: usize) {
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod fuzz;
