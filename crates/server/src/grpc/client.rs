//! The calling side of this gRPC layer. Members call each other with it.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, HeaderValue, Request, Version, header};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::MAX_FRAME;
use super::encoding::Encoding;
use super::frame::{FrameError, MessageReader};
use super::status::Status;
use super::stream::{Gone, Sender};
use crate::metrics::Traffic;

/// Bytes that a peer may send ahead on one stream, and on all together.
const WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Streams that may have all their windows full at once, before they hold up others.
const STREAMS: u32 = 16;
/// Bytes of a message between members: a run of log entries, commands on their way to the leader, or a piece of a file.
pub const MAX_MESSAGE: usize = 64 << 20;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// It was never sent.
    #[error("{0}")]
    Unsent(String),
    /// It was sent, and nobody knows what became of it.
    #[error("{0}")]
    Lost(String),
    /// It was answered with a status.
    #[error("{}", .0.message)]
    Refused(Status),
}

/// One connection to a server. It ends when the server does not answer a ping.
pub struct Connection {
    requests: SendRequest<Bytes>,
    driver: JoinHandle<()>,
    /// What the server is called in requests.
    authority: Cow<'static, str>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn unsent(e: impl std::fmt::Display) -> CallError {
    CallError::Unsent(e.to_string())
}

fn lost(e: impl std::fmt::Display) -> CallError {
    CallError::Lost(e.to_string())
}

impl Connection {
    /// Speaks HTTP/2 over `io`, pinging the server every `ping`.
    pub async fn over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, ping: Duration) -> Result<Self, CallError> {
        Self::with_window(io, ping, WINDOW).await
    }

    /// The same, where the server may send so much ahead on one stream.
    pub async fn with_window(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        ping: Duration,
        window: u32,
    ) -> Result<Self, CallError> {
        let handshake = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW.min(window.saturating_mul(STREAMS)))
            .max_send_buffer_size(window as usize)
            .max_frame_size(MAX_FRAME)
            .handshake(io);
        let (requests, mut connection) = handshake.await.map_err(unsent)?;
        let pings = connection.ping_pong();
        let driver = tokio::spawn(async move {
            tokio::select! {
                // Whatever ended it shows in the calls that were under way.
                _ = connection => {}
                () = unanswered(pings, ping) => {}
            }
        });
        Ok(Self { requests, driver, authority: Cow::Borrowed("peer") })
    }

    /// The same connection, with a server that wants to be called by its name.
    pub fn named(mut self, authority: String) -> Self {
        self.authority = Cow::Owned(authority);
        self
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.driver.is_finished()
    }

    /// Begins a call. What it is answered may be waited for once something was sent.
    pub async fn begin(
        &self,
        path: &str,
        metadata: &HeaderMap,
        traffic: &Traffic,
    ) -> Result<(ResponseFuture, Sender), CallError> {
        let uri = format!("http://{}{path}", self.authority);
        let mut request = Request::post(uri).version(Version::HTTP_2).body(()).map_err(unsent)?;
        request.headers_mut().extend(metadata.clone());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        let mut requests = self.requests.clone().ready().await.map_err(unsent)?;
        let (response, body) = requests.send_request(request, false).map_err(unsent)?;
        Ok((response, Sender::new(body).counted_by(traffic.sent.clone())))
    }

    /// A call of one message and one answer.
    pub async fn call<R: Message + Default>(
        &self,
        path: &str,
        metadata: &HeaderMap,
        message: &impl Message,
        traffic: &Traffic,
    ) -> Result<R, CallError> {
        let (response, mut sender) = self.begin(path, metadata, traffic).await?;
        sender.send(message).await.map_err(|Gone| lost("the connection was lost"))?;
        sender.close();
        Answers::of(response, traffic, MAX_MESSAGE).await?.next().await?.ok_or_else(|| lost("the call ended without an answer"))
    }

    /// A call of a stream each way.
    pub async fn open(&self, path: &str, metadata: &HeaderMap, traffic: &Traffic) -> Result<(Sender, Answers), CallError> {
        let (response, sender) = self.begin(path, metadata, traffic).await?;
        Ok((sender, Answers::of(response, traffic, MAX_MESSAGE).await?))
    }
}

/// Ends when a ping is not answered before the next one is due.
async fn unanswered(pings: Option<h2::PingPong>, every: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        tokio::time::sleep(every).await;
        match tokio::time::timeout(every, pings.ping(h2::Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// A message that has come.
pub enum Arrival<R> {
    /// All of it.
    Whole(R),
    /// The first of it; so many bytes are to be taken in pieces.
    Large(usize),
}

/// What a server answers to one call.
pub struct Answers {
    reader: MessageReader,
}

impl Answers {
    /// Waits for the server to answer, with messages of up to `max_bytes`.
    pub async fn of(response: ResponseFuture, traffic: &Traffic, max_bytes: usize) -> Result<Self, CallError> {
        let (head, body) = response.await.map_err(lost)?.into_parts();
        let reader = MessageReader::new(body, Encoding::Identity, max_bytes).counted_by(traffic.received.clone());
        let answers = Self { reader };
        if head.status != http::StatusCode::OK {
            return Err(lost(format!("HTTP status {}", head.status)));
        }
        // A call that is refused at once has its status where others have their metadata.
        match Status::read(&head.headers) {
            Some(Err(status)) => Err(CallError::Refused(status)),
            _ => Ok(answers),
        }
    }

    /// The next message; `None` after the last one of a call that went well.
    pub async fn next<R: Message + Default>(&mut self) -> Result<Option<R>, CallError> {
        match self.reader.next().await {
            Ok(Some(message)) => Ok(Some(message)),
            Ok(None) => self.end().await.map(|()| None),
            Err(e) => Err(broken_off(e)),
        }
    }

    /// As [`Self::next`], but for messages that are longer than is wanted whole.
    pub async fn next_up_to<R: Message + Default>(&mut self, whole: usize) -> Result<Option<Arrival<R>>, CallError> {
        match self.reader.length().await {
            Ok(Some(length)) if length > whole => {
                self.reader.enter();
                Ok(Some(Arrival::Large(length)))
            }
            Ok(Some(_)) => Ok(self.next().await?.map(Arrival::Whole)),
            Ok(None) => self.end().await.map(|()| None),
            Err(e) => Err(broken_off(e)),
        }
    }

    /// Up to so many bytes of a message that comes in pieces.
    pub async fn piece(&mut self, max_bytes: usize) -> Result<Bytes, CallError> {
        self.reader.piece(max_bytes).await.map_err(broken_off)
    }

    /// How a call has ended that has nothing more to say.
    async fn end(&mut self) -> Result<(), CallError> {
        match self.reader.trailers().await.as_ref().and_then(Status::read) {
            Some(Ok(())) => Ok(()),
            Some(Err(status)) => Err(CallError::Refused(status)),
            None => Err(lost("the call ended without a status")),
        }
    }
}

fn broken_off(e: FrameError) -> CallError {
    match e {
        FrameError::Gone => lost("the connection was lost"),
        FrameError::Refused(status) => lost(status.message),
    }
}

impl Connection {
    /// A plain GET, for what members tell over HTTP.
    pub async fn get(&self, path: &str, max_bytes: usize) -> Result<(HeaderMap, Vec<u8>), CallError> {
        let request =
            Request::get(format!("http://{}{path}", self.authority)).version(Version::HTTP_2).body(()).map_err(unsent)?;
        let mut requests = self.requests.clone().ready().await.map_err(unsent)?;
        let (response, _) = requests.send_request(request, true).map_err(unsent)?;
        let (head, mut body) = response.await.map_err(lost)?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(lost(format!("HTTP status {}", head.status)));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(lost)?;
            // The credit only fails to be released when the stream is gone already.
            let _ = body.flow_control().release_capacity(chunk.len());
            bytes.extend_from_slice(&chunk);
            if bytes.len() > max_bytes {
                return Err(lost("the answer is too long"));
            }
        }
        Ok((head.headers, bytes))
    }
}
