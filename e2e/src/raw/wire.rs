//! A connection whose bytes are written by hand: HTTP/2 frames that no library would send, halves of
//! them, and other protocols altogether.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ANSWER_LIMIT;
use crate::server::Server;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames, by their number in RFC 9113.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// The flags that tests set.
pub mod flag {
    pub const NONE: u8 = 0;
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// A frame that the server sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's frame is small").to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// One header, neither compressed nor remembered.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for part in [name, value] {
        out.push(u8::try_from(part.len()).ok().filter(|n| *n < 127).expect("a test's header is short"));
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// The headers of a gRPC call.
pub fn call_headers(path: &str) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers.iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// A TCP connection to a server's client port.
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// A connection on which nothing was said yet.
    pub async fn connect(server: &Server) -> Result<Self> {
        let address = server.client_url().replace("http://", "");
        Ok(Self { stream: TcpStream::connect(address).await? })
    }

    /// A connection that has begun to speak HTTP/2.
    pub async fn open(server: &Server) -> Result<Self> {
        let mut wire = Self::connect(server).await?;
        wire.send(PREFACE).await?;
        wire.send(&frame(kind::SETTINGS, flag::NONE, 0, &[])).await?;
        Ok(wire)
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("sending")
    }

    /// The next frame; `None` when the server has closed the connection.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        let read = async {
            let mut head = [0; 9];
            if self.stream.read_exact(&mut head).await.is_err() {
                return None;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        };
        tokio::time::timeout(ANSWER_LIMIT, read).await.context("the server neither sends nor closes")
    }

    /// Reads frames until one of this kind; an error when the server closes without it.
    pub async fn until(&mut self, kind: u8) -> Result<Frame> {
        while let Some(frame) = self.next().await? {
            if frame.kind == kind {
                return Ok(frame);
            }
        }
        bail!("the connection was closed before a frame of kind {kind}")
    }

    /// Reads what the server has to say until it closes; an error if it keeps the connection.
    pub async fn until_closed(&mut self) -> Result<Vec<u8>> {
        self.until_closed_within(ANSWER_LIMIT).await
    }

    /// The same for a server that gives the client some time.
    pub async fn until_closed_within(&mut self, limit: Duration) -> Result<Vec<u8>> {
        let mut said = Vec::new();
        // A reset is as good an end as any.
        let read = async { self.stream.read_to_end(&mut said).await.unwrap_or_default() };
        tokio::time::timeout(limit, read).await.context("the server does not close the connection")?;
        Ok(said)
    }
}
