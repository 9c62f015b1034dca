//! Watchers that do not read. Their events wait on disk, not in memory, and nobody else waits.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use h2::{RecvStream, SendStream};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use keelson_e2e::raw::framed;
use keelson_e2e::server::Server;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::Streaming;
use tonic::transport::Channel;

use super::common::{start, unharmed};

const VALUE: usize = 1 << 20;
const EVENTS: usize = 300;
const WRITERS: usize = 4;
/// Clients of each kind that do not read.
const OF_EACH: usize = 16;
/// All memory of a server through which so much went: caches and write buffers of about 300 MiB, and
/// for each stream what is on its way.
const MEMORY: u64 = 640 << 20;
/// What one client that is far behind may cost while it is served again.
const CATCHING_UP: u64 = 96 << 20;
/// Events that it reads: more than can have been fetched for it while they were new.
const READ: usize = 40;
const READ_LIMIT: Duration = Duration::from_secs(20);

fn watch_hot() -> WatchRequest {
    let create = WatchCreateRequest { key: "hot/".into(), range_end: "hot0".into(), ..Default::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// A TCP stream whose reader can stop reading.
struct MaybeDeaf {
    stream: TcpStream,
    deaf: Arc<AtomicBool>,
}

impl AsyncRead for MaybeDeaf {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.deaf.load(Ordering::Relaxed) { Poll::Pending } else { Pin::new(&mut self.stream).poll_read(cx, buf) }
    }
}

impl AsyncWrite for MaybeDeaf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// Reads its connection, but never makes room in the stream's window.
    KeepsWindowShut,
    /// Has opened all windows as wide as they go, and does not read the connection any more.
    IsDeaf,
}

/// A watch that was created, and is not read from then on.
struct Unread {
    body: RecvStream,
    _send: SendStream<Bytes>,
    driver: JoinHandle<()>,
}

impl Unread {
    async fn open(server: &Server, how: How) -> Result<Self> {
        let authority = server.client_url().replace("http://", "");
        let deaf = Arc::new(AtomicBool::new(false));
        let io = MaybeDeaf { stream: TcpStream::connect(&authority).await?, deaf: deaf.clone() };
        let mut builder = h2::client::Builder::new();
        if how == How::IsDeaf {
            builder.initial_window_size(i32::MAX as u32).initial_connection_window_size(i32::MAX as u32);
        }
        let (send, connection) = builder.handshake::<_, Bytes>(io).await?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        let request = http::Request::post(format!("http://{authority}/etcdserverpb.Watch/Watch"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut send) = send.ready().await?.send_request(request, false)?;
        send.send_data(framed(&watch_hot()), false)?;
        let mut body = response.await?.into_body();
        let created = body.data().await.context("the watch was not created")??;
        body.flow_control().release_capacity(created.len())?;
        deaf.store(how == How::IsDeaf, Ordering::Relaxed);
        Ok(Self { body, _send: send, driver })
    }

    async fn read(&mut self, bytes: usize) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let chunk = self.body.data().await.context("the stream has ended")??;
            self.body.flow_control().release_capacity(chunk.len())?;
            left = left.saturating_sub(chunk.len());
        }
        Ok(())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Writes events; their revisions, in order.
async fn write(server: &Server, events: usize) -> Result<Vec<i64>> {
    let kv = KvClient::connect(server.client_url()).await?;
    let one = async |number: usize| {
        let put =
            PutRequest { key: format!("hot/{}", number % 10).into(), value: vec![b'v'; VALUE].into(), ..Default::default() };
        let header = kv.clone().put(put).await?.into_inner().header.context("no header")?;
        anyhow::Ok(header.revision)
    };
    let mut revisions: Vec<i64> = stream::iter(0..events).map(one).buffer_unordered(WRITERS).try_collect().await?;
    revisions.sort_unstable();
    Ok(revisions)
}

/// A watcher that reads; it ends with the revisions of so many events.
async fn reading(server: &Server, events: usize) -> Result<JoinHandle<Result<Vec<i64>>>> {
    let mut client = WatchClient::connect(server.client_url()).await?.max_decoding_message_size(usize::MAX);
    let requests = stream::iter([watch_hot()]).chain(stream::pending());
    let mut responses = client.watch(requests).await?.into_inner();
    ensure!(responses.message().await?.is_some_and(|r| r.created), "the watch was not created");
    Ok(tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < events {
            let response = responses.message().await?.context("the watch has ended")?;
            seen.extend(response.events.iter().filter_map(|e| e.kv.as_ref()).map(|kv| kv.mod_revision));
        }
        Ok(seen)
    }))
}

#[tokio::test]
async fn watchers_that_never_read_cost_a_bounded_amount_of_memory_and_hold_nobody_up() -> Result<()> {
    let mut server = start(&[]).await?;
    let mut unread = Vec::new();
    for how in [How::KeepsWindowShut, How::IsDeaf] {
        for _ in 0..OF_EACH {
            unread.push(Unread::open(&server, how).await?);
        }
    }
    let reader = reading(&server, EVENTS).await?;
    let written = write(&server, EVENTS).await?;
    let seen = tokio::time::timeout(READ_LIMIT, reader).await.context("the watcher that reads is held up")???;
    ensure!(seen == written, "the watcher that reads saw {} events, of {} that were written", seen.len(), written.len());
    let memory = server.peak_resident_bytes()?;
    println!("{} unread watches of {EVENTS} MiB: {} MiB", unread.len(), memory >> 20);
    ensure!(memory < MEMORY, "{} unread watches of {EVENTS} MiB cost {} MiB", unread.len(), memory >> 20);
    drop(unread);
    unharmed(&mut server).await
}

#[tokio::test]
async fn a_watcher_that_is_far_behind_is_served_in_small_steps() -> Result<()> {
    let mut server = start(&[]).await?;
    let mut late = Unread::open(&server, How::KeepsWindowShut).await?;
    write(&server, EVENTS).await?;
    let before = server.peak_resident_bytes()?;
    tokio::time::timeout(READ_LIMIT, late.read(READ * VALUE)).await.context("nothing to read")??;
    unharmed(&mut server).await?;
    let grown = server.peak_resident_bytes()?.saturating_sub(before);
    println!("a watcher behind by {EVENTS} MiB: {} MiB", grown >> 20);
    ensure!(grown < CATCHING_UP, "reading {READ} MiB of {EVENTS} MiB that had piled up cost {} MiB", grown >> 20);
    Ok(())
}

/// Many watches on one connection, which is not read for a while: every stream's window is shut, and so is the connection's.
#[tokio::test]
async fn watches_that_starve_on_one_connection_miss_nothing_once_they_are_read() -> Result<()> {
    const STREAMS: usize = 60;
    const PUTS: usize = 400;
    let mut server = start(&[]).await?;
    let channel = Channel::from_shared(server.client_url())?.connect().await?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let requests = stream::iter([watch_hot()]).chain(stream::pending());
        let mut responses = WatchClient::new(channel.clone()).watch(requests).await?.into_inner();
        ensure!(responses.message().await?.is_some_and(|r| r.created), "the watch was not created");
        streams.push(responses);
    }
    let mut kv = KvClient::connect(server.client_url()).await?;
    let mut written = Vec::new();
    for number in 0..PUTS {
        let put = PutRequest { key: format!("hot/{}", number % 10).into(), value: vec![b'v'; 4096].into(), ..Default::default() };
        written.push(kv.put(put).await?.into_inner().header.context("no header")?.revision);
    }
    let read = async |mut responses: Streaming<WatchResponse>| {
        let mut seen = Vec::new();
        while seen.len() < PUTS {
            let response = responses.message().await?.context("the watch has ended")?;
            seen.extend(response.events.iter().filter_map(|e| e.kv.as_ref()).map(|kv| kv.mod_revision));
        }
        anyhow::Ok(seen)
    };
    let all = futures::future::try_join_all(streams.into_iter().map(read));
    for seen in tokio::time::timeout(READ_LIMIT, all).await.context("some watch is told of nothing more")?? {
        ensure!(seen == written, "a watch saw {seen:?} of {written:?}");
    }
    unharmed(&mut server).await
}
