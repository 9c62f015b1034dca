//! Much of what alone is harmless: calls given up half way, control frames without end.

use std::future::poll_fn;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use keelson_e2e::raw::framed;
use keelson_e2e::raw::wire::{Wire, call_headers, flag, frame, kind};
use keelson_e2e::server::Server;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::common::{start, unharmed};

const PUT: &str = "/etcdserverpb.KV/Put";
const HALF_SENT: usize = 10_000;
const ROUNDS: usize = 10;
const PER_ROUND: usize = 100;
/// What any of these floods may cost.
const MEMORY: u64 = 64 << 20;
/// A server that stops reading from a client that floods it defends itself well; no use in waiting.
const FLOOD_LIMIT: Duration = Duration::from_secs(3);

struct Client {
    send: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Client {
    async fn open(server: &Server) -> Result<Self> {
        let address = server.client_url().replace("http://", "");
        let (send, connection) = h2::client::handshake(TcpStream::connect(address).await?).await?;
        Ok(Self { send, driver: tokio::spawn(async move { drop(connection.await) }) })
    }

    /// Sends part of a request; whoever drops what this returns resets the stream.
    async fn begin(&self, part: Bytes) -> Result<impl Sized + use<>, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let request = http::Request::post(format!("http://localhost{PUT}")).header("content-type", "application/grpc");
        let (response, mut body) = send.send_request(request.body(()).expect("a good request"), false)?;
        let mut rest = part;
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            // None and an error both mean that the stream is gone, which the next line finds out too.
            let room = poll_fn(|cx| body.poll_capacity(cx)).await.transpose()?.unwrap_or_default();
            body.send_data(rest.split_to(room.min(rest.len())), false)?;
        }
        Ok((response, body))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn count(server: &Server, key: &'static str) -> Result<i64> {
    let mut kv = KvClient::connect(server.client_url()).await?;
    Ok(kv.range(RangeRequest { key: key.into(), ..Default::default() }).await?.into_inner().count)
}

#[tokio::test]
async fn puts_that_are_reset_half_way_do_not_happen_and_cost_nothing() -> Result<()> {
    let mut server = start(&[]).await?;
    unharmed(&mut server).await?;
    let before = server.resident_bytes()?;
    let put = framed(&PutRequest { key: "half".into(), value: vec![b'v'; 4000].into(), ..Default::default() });
    let mut client = Client::open(&server).await?;
    let mut lost = 0;
    for _ in 0..HALF_SENT {
        if client.begin(put.slice(..put.len() / 2)).await.is_err() {
            // The server may send away a client that does nothing else than this.
            lost += 1;
            client = Client::open(&server).await?;
        }
    }
    ensure!(lost < HALF_SENT / 2, "{lost} of {HALF_SENT} calls found no connection");
    ensure!(count(&server, "half").await? == 0, "half a put was taken for a whole one");
    unharmed(&mut server).await?;
    let grown = server.peak_resident_bytes()?.saturating_sub(before);
    println!("{HALF_SENT} puts reset half way: {} MiB", grown >> 20);
    ensure!(grown < MEMORY, "{} MiB", grown >> 20);
    Ok(())
}

#[tokio::test]
async fn half_sent_requests_are_forgotten_with_their_connection() -> Result<()> {
    let mut server = start(&[]).await?;
    unharmed(&mut server).await?;
    let before = server.resident_bytes()?;
    let put = framed(&PutRequest { key: "half".into(), value: vec![b'v'; 1 << 20].into(), ..Default::default() });
    for _ in 0..ROUNDS {
        let client = Client::open(&server).await?;
        let mut begun = Vec::new();
        for _ in 0..PER_ROUND {
            begun.push(client.begin(put.slice(..put.len() - 1)).await?);
        }
        unharmed(&mut server).await?;
    }
    ensure!(count(&server, "half").await? == 0, "a put without its last byte was taken for a whole one");
    // As much as one round sends, and the same again for growing buffers and what the allocator gives back later.
    let (grown, bound) = (server.peak_resident_bytes()?.saturating_sub(before), (PER_ROUND as u64 * 2) << 20);
    println!("{ROUNDS} rounds of {PER_ROUND} MiB half sent: {} MiB", grown >> 20);
    ensure!(grown < bound, "{ROUNDS} rounds of {PER_ROUND} MiB cost {} MiB", grown >> 20);
    Ok(())
}

/// What it is, how many there are, and the bytes of each.
type Flood = (&'static str, usize, fn(u32) -> Vec<u8>);

/// Frames that oblige the server to do or to answer something, over and over.
fn floods() -> Vec<Flood> {
    let opened_and_reset = |i: u32| {
        let headers = frame(kind::HEADERS, flag::END_HEADERS, 2 * i + 1, &call_headers(PUT));
        [headers, frame(kind::RST_STREAM, flag::NONE, 2 * i + 1, &[0, 0, 0, 8])].concat()
    };
    vec![
        ("pings", 1_000_000, |_| frame(kind::PING, flag::NONE, 0, &[0; 8])),
        ("settings", 1_000_000, |_| frame(kind::SETTINGS, flag::NONE, 0, &[])),
        ("priorities", 1_000_000, |_| frame(kind::PRIORITY, flag::NONE, 1, &[0, 0, 0, 0, 1])),
        ("settings that change", 300_000, |i| frame(kind::SETTINGS, flag::NONE, 0, &[0, 4, 0, 0, (i >> 8) as u8, i as u8])),
        ("streams opened and reset", 100_000, opened_and_reset),
        ("streams opened", 100_000, |i| frame(kind::HEADERS, flag::END_HEADERS, 2 * i + 1, &call_headers("/nope/Nope"))),
    ]
}

#[tokio::test]
async fn a_flood_of_frames_whose_answers_are_never_read_costs_a_bounded_amount_of_memory() -> Result<()> {
    let mut server = start(&["--max-concurrent-streams=1000"]).await?;
    unharmed(&mut server).await?;
    let before = server.resident_bytes()?;
    for (what, count, one) in floods() {
        let mut wire = Wire::open(&server).await?;
        let bytes: Vec<u8> = (0..count).flat_map(|i| one(u32::try_from(i).expect("counts are small"))).collect();
        // An error or a full pipe: the server has had enough.
        let _ = tokio::time::timeout(FLOOD_LIMIT, wire.send(&bytes)).await;
        unharmed(&mut server).await?;
        let grown = server.peak_resident_bytes()?.saturating_sub(before);
        println!("a flood of {what}: {} MiB", grown >> 20);
        ensure!(grown < MEMORY, "a flood of {what} cost {} MiB", grown >> 20);
    }
    Ok(())
}
