//! The JSON gateway: calls as HTTP requests under `/v3/`, as etcd serves them.
//!
//! It knows the calls by their descriptors alone and makes them over a connection within the process,
//! so that what holds for calls (limits, time, learners, leaders, users, metrics) holds here, and each
//! call that is there can be made. Streams are answered with a line for each message; who goes away
//! ends the call.

mod arriving;
pub mod descriptors;
mod failure;
mod incoming;
mod inside;
mod large;
mod metadata;
mod raw;
mod read;
mod routes;
pub mod websocket;
mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::request::Parts;
use http::{HeaderMap, Method as Verb, Response};
use keelson_api::{Code, Error};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use self::incoming::Incoming;
use self::inside::Inside;
use self::large::Large;
use self::raw::Raw;
use self::read::Unreadable;
use crate::conn;
use crate::grpc::{Answers, Arrival, CallError, Connection, Ends, Gone, Sender, Status, half, parse_timeout, too_late};
use crate::http::{Download, Upload};
use crate::member::Member;
use crate::metrics::Traffic;
use crate::services::{MESSAGE_OVERHEAD, Method};

/// What the paths of calls begin with.
pub const PATH: &str = "/v3/";
/// Bytes on their way through the process, each way.
const PIPE: usize = 256 << 10;
/// JSON has at most so many times the bytes of the message that it stands for; of base64 it has a third more.
const EXPANSION: usize = 2;
/// What a call may send ahead of a client that takes its answer slowly, in bytes.
const WINDOW: u32 = 256 << 10;
/// Longer requests are converted where they hold up nobody, and longer answers while they are sent.
const INLINE: usize = 64 << 10;
/// A client that takes nothing of a large answer for so long is cut off: it holds resources of the store.
const STALLED: Duration = Duration::from_secs(60);

/// A client connection's way to the calls.
pub struct Gateway {
    member: Arc<Member>,
    ends: Ends,
    inside: Inside,
    given_up: Arc<Notify>,
}

impl Gateway {
    /// A way to the calls of this member, for who has come by this connection.
    pub fn of(member: Arc<Member>, ends: Ends) -> Self {
        Self { member, ends, inside: Inside::default(), given_up: Arc::default() }
    }

    /// Told when the client took nothing of a large answer for too long.
    pub fn given_up(&self) -> Arc<Notify> {
        self.given_up.clone()
    }

    /// Bytes of JSON that are read of a message.
    fn limit(&self) -> usize {
        EXPANSION * self.message_limit()
    }

    fn message_limit(&self) -> usize {
        self.member.config.max_request_bytes + MESSAGE_OVERHEAD
    }

    /// Answers a request.
    pub async fn serve(&self, head: &Parts, upload: Upload) -> Response<Download> {
        let Some(method) = routes::of(head.uri.path()) else {
            return failure::answer(&Status::new(Code::NotFound, "Not Found"));
        };
        if head.method != Verb::POST {
            return failure::answer(&Status::new(Code::Unimplemented, "Method Not Allowed"));
        }
        let answered = match method.kind() {
            "unary" => self.unary(method, &head.headers, upload).await,
            _ => self.stream(method, &head.headers, upload).await,
        };
        answered.unwrap_or_else(|status| failure::answer(&status))
    }

    async fn unary(&self, method: Method, headers: &HeaderMap, upload: Upload) -> Result<Response<Download>, Status> {
        let metadata = metadata::of(headers)?;
        let described = descriptors::of(method);
        let request = self.read_one(described.input(), upload).await?;
        let mut answers = self.ask(method, &metadata, &request).await.map_err(status_of)?;
        match answers.next_up_to::<Raw>(INLINE).await.map_err(status_of)? {
            Some(Arrival::Whole(Raw(encoded))) => Ok(succeeded(Download::Whole(to_json(described.output(), encoded)?.into()))),
            Some(Arrival::Large(length)) => {
                let (pieces, download) = mpsc::channel(1);
                tokio::spawn(send_large(answers, described.output(), length, pieces, self.given_up.clone()));
                Ok(succeeded(Download::Large(download)))
            }
            None => Err(Status::new(Code::Internal, "keelson: the call ended without an answer")),
        }
    }

    async fn stream(&self, method: Method, headers: &HeaderMap, upload: Upload) -> Result<Response<Download>, Status> {
        let metadata = metadata::of(headers)?;
        let described = descriptors::of(method);
        let deadline = deadline(&metadata);
        let (asked, feeding) = if described.is_client_streaming() {
            let (response, sender) = self.begin(method, &metadata).await.map_err(status_of)?;
            let feeding = Feeding(tokio::spawn(feed(upload, sender, described.input(), self.limit())));
            (Answers::of(response, &Traffic::default(), usize::MAX).await, Some(feeding))
        } else {
            let request = self.read_one(described.input(), upload).await?;
            (self.ask(method, &metadata, &request).await, None)
        };
        let mut lines = match asked {
            Ok(answers) => Lines { answers, kind: described.output(), deadline, _feeding: feeding },
            Err(e) => return Ok(failure::of_stream(&status_of(e))),
        };
        // The head tells how the stream has begun, so it waits for the first message.
        match lines.next().await {
            Ok(Some(first)) => {
                let (pieces, download) = mpsc::channel(1);
                tokio::spawn(send(lines, first, pieces));
                Ok(succeeded(Download::Stream(download)))
            }
            Ok(None) => Ok(Response::new(Download::Whole(Bytes::new()))),
            Err(status) => Ok(failure::of_stream(&status)),
        }
    }

    /// Reads the one message of a request; nothing is the empty message. What follows it is of no concern.
    async fn read_one(&self, kind: MessageDescriptor, mut upload: Upload) -> Result<DynamicMessage, Status> {
        let mut json = Vec::new();
        let mut half = half::OF_CLIENTS.share();
        loop {
            let piece = match json.len() {
                0 => upload.next().await,
                length => {
                    half.hold(length)?;
                    half.in_time(upload.next()).await?
                }
            };
            let Some(piece) = piece else { break };
            json.extend_from_slice(&piece);
            if json.len() > self.limit() {
                let text = format!("grpc: received message larger than max ({} vs. {})", json.len(), self.message_limit());
                return Err(Status::new(Code::ResourceExhausted, text));
            }
        }
        let length = json.len();
        let read = move || -> Result<DynamicMessage, Unreadable> {
            match read::first(&json)? {
                None => Ok(DynamicMessage::new(kind)),
                Some((value, _)) => read::read(&kind, value),
            }
        };
        let message = if length <= INLINE { read() } else { tokio::task::spawn_blocking(read).await.map_err(stopped)? };
        message.map_err(|e| match e {
            Unreadable::Incomplete => Status::new(Code::InvalidArgument, "unexpected EOF"),
            Unreadable::Wrong(why) => Status::new(Code::InvalidArgument, why),
        })
    }

    async fn begin(&self, method: Method, metadata: &HeaderMap) -> Result<(ResponseFuture, Sender), CallError> {
        let open = || async {
            let (here, there) = tokio::io::duplex(PIPE);
            tokio::spawn(conn::inside(there, self.ends, self.member.clone()));
            Connection::with_window(here, self.member.config.ping_interval, WINDOW).await
        };
        let connection = self.inside.get(open).await?;
        connection.begin(&format!("/{}/{}", method.service(), method.name()), metadata, &Traffic::default()).await
    }

    /// Makes a call of one request, up to where the answers begin.
    async fn ask(&self, method: Method, metadata: &HeaderMap, request: &DynamicMessage) -> Result<Answers, CallError> {
        let (response, mut sender) = self.begin(method, metadata).await?;
        // A request that is not taken to its end has been refused, which the answer tells.
        if let Ok(()) = sender.send(request).await {
            sender.close();
        }
        Answers::of(response, &Traffic::default(), usize::MAX).await
    }
}

fn stopped<E>(_: E) -> Status {
    Error::Stopped.into()
}

fn status_of(e: CallError) -> Status {
    match e {
        CallError::Refused(status) => status,
        CallError::Unsent(why) | CallError::Lost(why) => Status::new(Code::Unavailable, why),
    }
}

fn succeeded(body: Download) -> Response<Download> {
    let mut response = Response::new(body);
    *response.headers_mut() = failure::headers_of_success();
    response
}

fn to_json(kind: MessageDescriptor, encoded: Bytes) -> Result<String, Status> {
    match DynamicMessage::decode(kind, encoded) {
        Ok(message) => Ok(write::write(&message)),
        Err(e) => Err(Status::new(Code::Internal, format!("keelson: an answer could not be turned into JSON: {e}"))),
    }
}

/// Sends an answer of one large message. Unless the call has ended well after it, its end is not told.
async fn send_large(
    mut answers: Answers,
    kind: MessageDescriptor,
    length: usize,
    pieces: mpsc::Sender<Bytes>,
    given_up: Arc<Notify>,
) {
    let mut large = Large::new(&mut answers, kind, length);
    loop {
        let piece = match large.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(status) => {
                tracing::warn!(error = status.message, "a large answer of the gateway breaks off");
                return;
            }
        };
        match timeout(STALLED, pieces.send(piece)).await {
            Ok(Ok(())) => {}
            // The client is gone.
            Ok(Err(_)) => return,
            Err(_) => return given_up.notify_one(),
        }
    }
    if let Ok(None) = answers.next::<Raw>().await
        && timeout(STALLED, pieces.send(Bytes::new())).await.is_err()
    {
        given_up.notify_one();
    }
}

/// Messages of a client on their way into a call; ends with this.
struct Feeding(JoinHandle<()>);

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends the messages of a body one by one as they become whole. Whatever is no message ends them, without a word.
async fn feed(mut upload: Upload, mut sender: Sender, kind: MessageDescriptor, limit: usize) {
    let mut incoming = Incoming::new(limit);
    let mut half = half::OF_CLIENTS.share();
    while let Ok(message) = incoming.next(&kind) {
        match message {
            Some(message) => {
                half.give_back();
                if let Err(Gone) = sender.send(&message).await {
                    return;
                }
            }
            None => match upload.next().await {
                Some(piece) if incoming.push(&piece) && half.hold(incoming.held()).is_ok() => {}
                Some(_) | None => break,
            },
        }
    }
    sender.close();
}

/// When a call has to end; what lies too far ahead to be told never comes.
fn deadline(metadata: &HeaderMap) -> Option<Instant> {
    let limit = parse_timeout(metadata.get("grpc-timeout")?.to_str().ok()?).ok()?;
    Instant::now().checked_add(limit)
}

/// Answers of a stream as lines. The calls leave it to their client to end a stream in time.
struct Lines {
    answers: Answers,
    kind: MessageDescriptor,
    deadline: Option<Instant>,
    _feeding: Option<Feeding>,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Arrival<String>>, Status> {
        let deadline = self.deadline;
        let too_long = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            next = self.answers.next_up_to::<Raw>(INLINE) => next,
            () = too_long => return Err(too_late()),
        };
        Ok(match next.map_err(status_of)? {
            Some(Arrival::Whole(Raw(encoded))) => {
                let json = to_json(self.kind.clone(), encoded)?;
                Some(Arrival::Whole(format!("{{\"result\":{json}}}\n")))
            }
            Some(Arrival::Large(length)) => Some(Arrival::Large(length)),
            None => None,
        })
    }

    /// Sends a line; false if it was not taken, or cannot be ended.
    async fn send(&mut self, line: Arrival<String>, pieces: &mpsc::Sender<Bytes>) -> bool {
        let length = match line {
            Arrival::Whole(line) => return pieces.send(line.into()).await.is_ok(),
            Arrival::Large(length) => length,
        };
        let mut large = Large::new(&mut self.answers, self.kind.clone(), length);
        let mut piece = Bytes::from_static(b"{\"result\":");
        loop {
            if pieces.send(piece).await.is_err() {
                return false;
            }
            piece = match large.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return pieces.send(Bytes::from_static(b"}\n")).await.is_ok(),
                Err(_) => return false,
            };
        }
    }
}

/// Sends lines for as long as somebody takes them.
async fn send(mut lines: Lines, first: Arrival<String>, pieces: mpsc::Sender<Bytes>) {
    let mut line = first;
    while lines.send(line, &pieces).await {
        let next = tokio::select! {
            next = lines.next() => next,
            () = pieces.closed() => return,
        };
        line = match next {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(status) => {
                // A failed send means that the client is gone.
                let _ = pieces.send(failure::line(&status).into()).await;
                return;
            }
        };
    }
}
