//! Large requests that stop half way. Each may be as long as a request may be; together they may not take all memory.

use std::future::poll_fn;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, select_all};
use h2::SendStream;
use h2::client::SendRequest;
use http::Response;
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::program::Program;
use keelson_e2e::raw::{ANSWER_LIMIT, framed};
use keelson_e2e::server::Server;
use tokio::net::TcpStream;

use super::common::{start, unharmed};

const CONNECTIONS: usize = 20;
const STREAMS: usize = 40;
/// What is sent of each, in bytes: 800 MB together.
const SENT: usize = 1_000_000;
/// All memory of the server: twice what it holds of half requests, and what it needs itself.
const MEMORY: u64 = 896 << 20;
const EXHAUSTED: &str = "8";

/// A request that stops half way. It is reset when this is dropped.
struct Half {
    answer: BoxFuture<'static, Result<Response<h2::RecvStream>, h2::Error>>,
    body: SendStream<Bytes>,
}

impl Half {
    async fn send(send: &SendRequest<Bytes>, part: Bytes) -> Result<Self> {
        let request = http::Request::post("http://localhost/etcdserverpb.KV/Put").header("content-type", "application/grpc");
        let (answer, mut body) = send.clone().ready().await?.send_request(request.body(())?, false)?;
        let mut rest = part;
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            // Nothing and an error both mean that it was refused meanwhile, which the answer tells.
            let Some(Ok(room)) = poll_fn(|cx| body.poll_capacity(cx)).await else { break };
            if body.send_data(rest.split_to(room.min(rest.len())), false).is_err() {
                break;
            }
        }
        Ok(Self { answer: answer.boxed(), body })
    }
}

fn large(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: vec![b'v'; SENT * 14 / 10].into(), ..Default::default() }
}

async fn connect(server: &Server) -> Result<SendRequest<Bytes>> {
    let (send, connection) = h2::client::handshake(TcpStream::connect(server.client_url().replace("http://", "")).await?).await?;
    // It ends with the last of what belongs to it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(send)
}

#[tokio::test]
async fn large_requests_that_stop_half_way_are_refused_before_they_take_all_memory() -> Result<()> {
    if Program::under_test()? == Program::Etcd {
        // It has no such limit.
        return Ok(());
    }
    let mut server = start(&[]).await?;
    let part = framed(&large("half")).slice(..SENT);
    let mut halves = Vec::new();
    for _ in 0..CONNECTIONS {
        let send = connect(&server).await?;
        for _ in 0..STREAMS {
            halves.push(Half::send(&send, part.clone()).await?);
        }
    }
    let (answers, bodies): (Vec<_>, Vec<_>) = halves.into_iter().map(|half| (half.answer, half.body)).unzip();
    let (answer, _, others) = tokio::time::timeout(ANSWER_LIMIT, select_all(answers)).await.context("nobody is refused")?;
    let head = answer?.into_parts().0.headers;
    let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    ensure!(text("grpc-status") == EXHAUSTED && text("grpc-message").contains("half"), "{head:?}");
    // Whoever sends a request at once is served as before.
    unharmed(&mut server).await?;
    let memory = server.peak_resident_bytes()?;
    println!("{} requests half sent: {} MiB", CONNECTIONS * STREAMS, memory >> 20);
    ensure!(memory < MEMORY, "{} MiB", memory >> 20);
    drop((others, bodies));
    let mut kv = KvClient::connect(server.client_url()).await?;
    let back = async {
        while kv.put(large("whole")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(ANSWER_LIMIT, back).await.context("the room does not come back")
}
