//! One connection: its first bytes tell HTTP/2 from HTTP/1, and each request goes to gRPC or to
//! plain HTTP by its content type and its path.

mod gather;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use self::gather::{Outlet, gather};
use crate::config::Config;
use crate::grpc::{Call, Ends, MAX_FRAME, Respond, Sender, is_grpc};
use crate::http::{BreaksOff, Download, Front};
use crate::member::Member;
use crate::metrics::Metrics;
use crate::{peer, services};

/// What HTTP/2 clients say first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A connection that says nothing for so long is closed.
const FIRST_BYTES: Duration = Duration::from_secs(30);
/// How long calls that are under way may take once the process stops.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a client that broke the protocol is given to hear of it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Which requests a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// gRPC and HTTP.
    Client,
    /// gRPC only, when clients have ports for HTTP.
    Calls,
    /// What clients may ask over HTTP, apart from gRPC.
    Http,
    /// What members ask of each other.
    Peer,
    /// HTTP only.
    Metrics,
}

/// Connections that are being served.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A connection's place among those that there may be: it is taken until all that came of it has ended.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

struct Counted;

impl Counted {
    fn new() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of a client that has come over TLS.
#[derive(Clone, Default)]
pub struct Secure {
    /// The user that its certificate names, if certificates name users.
    pub certificate_name: Option<Arc<str>>,
}

/// Lets connections finish when the process stops, for a while.
pub async fn drain(_: &Member) {
    let deadline = tokio::time::Instant::now() + DRAIN;
    while OPEN.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Serves a connection to its end, and gives up its permit once it is closed.
pub async fn serve(
    mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ends: Ends,
    member: Arc<Member>,
    surface: Surface,
    secure: Option<Secure>,
    permit: OwnedSemaphorePermit,
) {
    let place = Place { _permit: permit, _counted: Counted::new() };
    let first = tokio::time::timeout(FIRST_BYTES, first_bytes(&mut io)).await;
    let Ok(Ok((bytes, is_http2))) = first else { return };
    // What members say to each other is counted by member, elsewhere.
    let of_clients = matches!(surface, Surface::Client | Surface::Calls | Surface::Http);
    let metrics = of_clients.then(|| member.metrics.clone());
    let io = Counting { head: bytes.into(), io, metrics };
    let front = Arc::new(Front::new(member, surface, ends, secure, Some(place)));
    match (is_http2, surface) {
        (true, _) => http2(io, front).await,
        // Calls have no HTTP/1.
        (false, Surface::Calls) => {}
        (false, _) => http1(io, front).await,
    }
}

/// Serves a connection that begins in this process, for somebody who has come by another one, and is for calls only.
pub fn inside(io: DuplexStream, ends: Ends, member: Arc<Member>) -> BoxFuture<'static, ()> {
    Box::pin(http2(io, Arc::new(Front::new(member, Surface::Calls, ends, Some(Secure::default()), None))))
}

/// Reads until it is clear whether the client speaks HTTP/2.
async fn first_bytes(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Vec<u8>, bool)> {
    let mut head = Vec::with_capacity(PREFACE.len());
    while head.len() < PREFACE.len() {
        let mut chunk = [0; 24];
        let room = PREFACE.len() - head.len();
        let n = io.read(&mut chunk[..room]).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..n]);
        if !PREFACE.starts_with(&head) {
            return Ok((head, false));
        }
    }
    Ok((head, true))
}

async fn http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, front: Arc<Front>) {
    let (io, outlet) = gather(io);
    let member = front.member.clone();
    let handshake = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(member.config.max_concurrent_streams)
        .max_header_list_size(64 << 10)
        .max_send_buffer_size(1 << 20)
        .max_frame_size(MAX_FRAME)
        .handshake::<_, Bytes>(io);
    let mut handshake = std::pin::pin!(handshake);
    let shaken = tokio::time::timeout(FIRST_BYTES, driven(&outlet, |cx| handshake.as_mut().poll(cx))).await;
    let Ok(Some(Ok(mut connection))) = shaken else { return };
    let stopping = member.clone();
    let mut stopped = std::pin::pin!(stopping.stopped());
    let mut told = false;
    let mut unanswered = std::pin::pin!(unanswered_ping(connection.ping_pong(), &member.config));
    loop {
        tokio::select! {
            accepted = driven(&outlet, |cx| connection.poll_accept(cx)) => match accepted {
                Some(Some(Ok((request, respond)))) => {
                    tokio::spawn(request_of_http2(front.clone(), request, respond));
                }
                // The client is gone or has broken the protocol, and has been told.
                Some(Some(Err(_)) | None) | None => break,
            },
            () = &mut stopped, if !told => {
                told = true;
                connection.graceful_shutdown();
            }
            () = &mut unanswered => break,
        }
    }
    // Nobody waits for a client that does not take its last words.
    let _ = tokio::time::timeout(LAST_WORDS, poll_fn(|cx| outlet.poll(cx))).await;
}

/// Drives the protocol, and sends what it had to say whenever it has no more; `None` if that fails.
async fn driven<T, R>(outlet: &Outlet<T>, mut protocol: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Option<R>
where
    T: AsyncWrite + Unpin,
{
    poll_fn(|cx| match protocol(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => match outlet.poll(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            // A protocol that waits for room is woken by the connection, as it would be without an outlet.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        },
    })
    .await
}

/// Pings the client now and then; ends when one is not answered in time.
async fn unanswered_ping(ping: Option<h2::PingPong>, config: &Config) {
    let Some(mut ping) = ping else { return std::future::pending().await };
    loop {
        tokio::time::sleep(config.ping_interval).await;
        match tokio::time::timeout(config.ping_timeout, ping.ping(h2::Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection has failed already, and says so where it is read.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

async fn request_of_http2(front: Arc<Front>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, body) = request.into_parts();
    let of_grpc = head.headers.get(http::header::CONTENT_TYPE).is_some_and(|v| is_grpc(v.as_bytes()));
    // What is posted can be nothing but a call, if a bad one: only the gateway has something else to post to.
    let may_be_call = of_grpc || (head.method == Method::POST && !front.is_gateways(head.uri.path()));
    let is_call = match front.surface {
        Surface::Client | Surface::Peer => may_be_call,
        Surface::Calls => true,
        Surface::Http | Surface::Metrics => false,
    };
    if is_call {
        let path = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        let mut respond = Respond::new(respond);
        let member = front.member.clone();
        match Call::new(&head.method, head.headers) {
            Ok(call) if front.surface == Surface::Peer => peer::serve(member, path, call, body, respond).await,
            Ok(mut call) => {
                call.certificate_name = front.certificate_name();
                call.ends = front.ends;
                services::serve(member, path, call, body, respond).await;
            }
            Err((http, status)) => drop(respond.refuse_as(http, &status)),
        }
        return;
    }
    let is_head = head.method == Method::HEAD;
    // Boxed, so that it is not part of what every call takes.
    let answer = Box::pin(front.answer(head, body.into(), None));
    let answer = tokio::select! {
        answer = answer => answer,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    send_by_http2(answer, is_head, respond).await;
}

/// Sends an answer as the client takes it, for as long as it does.
async fn send_by_http2(answer: Response<Download>, is_head: bool, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = answer.into_parts();
    let is_whole = is_head || body.is_end_stream();
    let is_large = matches!(body, Download::Large(_));
    // A failed send means that the client is gone.
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), is_whole) else { return };
    if is_whole {
        return;
    }
    let mut sender = Sender::new(stream);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = sender.reset() => return,
        };
        let piece = match frame {
            // The stream is reset then, by which the client knows that this was not all.
            Some(Err(BreaksOff)) => return,
            frame => frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok()),
        };
        let Some(piece) = piece else { return sender.close() };
        let sent = if is_large { sender.send_framed_in_time(piece).await } else { sender.send_framed(piece).await };
        if sent.is_err() {
            return;
        }
    }
}

async fn http1(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, front: Arc<Front>) {
    let stopping = front.member.clone();
    let given_up = front.gateway.given_up();
    let service = service_fn(move |request: Request<Incoming>| {
        let front = front.clone();
        async move { Ok::<_, std::convert::Infallible>(front.answer_http1(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_BYTES)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Whatever went wrong was the client's; there is nothing to do about it.
        _ = connection.as_mut() => return,
        () = given_up.notified() => return,
        () = stopping.stopped() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection.as_mut() => {}
        () = given_up.notified() => {}
    }
}

/// A connection whose first bytes have been looked at already, and whose traffic is counted.
struct Counting<T> {
    head: Bytes,
    io: T,
    metrics: Option<Arc<Metrics>>,
}

impl<T> Counting<T> {
    fn sent(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(n)), Some(metrics)) = (&result, &self.metrics) {
            metrics.client_sent.inc_by(*n as u64);
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counting<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            let before = buf.filled().len();
            let result = Pin::new(&mut self.io).poll_read(cx, buf);
            if let Some(metrics) = &self.metrics {
                metrics.client_received.inc_by((buf.filled().len() - before) as u64);
            }
            return result;
        }
        let n = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counting<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.sent(result)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.sent(result)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod fuzz;
