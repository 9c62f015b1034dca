//! Clients that connect and then say nothing, or begin to say something and stop. They cost little,
//! nobody waits for them, and what they cost comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use keelson_e2e::raw::wire::{PREFACE, Wire, flag, frame, kind};
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::common::{start, unharmed};

const CONNECTIONS: u32 = 10_000;
/// Memory for all of them: 16 KiB for each.
const MEMORY: u64 = CONNECTIONS as u64 * (16 << 10);
/// Each end of a connection is a file, the server's as well as ours.
const FILES: u64 = CONNECTIONS as u64 + 1000;
/// A client that does not finish its first bytes is sent away after 30 s.
const FIRST_BYTES: Duration = Duration::from_secs(35);

/// For this process and for servers that are started from now on.
fn allow_files(files: u64) -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < files) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..now })
            .with_context(|| format!("this test needs {files} open files: raise the hard limit (ulimit -Hn)"))?;
    }
    Ok(())
}

/// Connects from one of many addresses of the loopback, because one address has too few ports.
async fn connect(to: SocketAddr, number: u32) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let from = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + number % 50)?);
    socket.bind((from, 0).into())?;
    Ok(socket.connect(to).await?)
}

/// A connection that has greeted as an HTTP/2 client and was greeted.
async fn connect_http2(to: SocketAddr, number: u32) -> Result<TcpStream> {
    let mut stream = connect(to, number).await?;
    stream.write_all(&[PREFACE, &frame(kind::SETTINGS, flag::NONE, 0, &[])].concat()).await?;
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).await?;
    Ok(stream)
}

async fn many(server: &Server, is_http2: bool) -> Result<Vec<TcpStream>> {
    let to = server.client_url().replace("http://", "").parse()?;
    let one = async |number| if is_http2 { connect_http2(to, number).await } else { connect(to, number).await };
    stream::iter(0..CONNECTIONS).map(one).buffer_unordered(256).try_collect().await
}

async fn ten_thousand(is_http2: bool) -> Result<()> {
    allow_files(FILES)?;
    let mut server = start(&[]).await?;
    unharmed(&mut server).await?;
    let (files, memory) = (server.open_files()?, server.resident_bytes()?);
    let idle = many(&server, is_http2).await?;
    let all_are_open = async || Ok(server.open_files()? >= idle.len());
    wait::until("all are accepted", Duration::from_secs(10), all_are_open).await?;
    unharmed(&mut server).await?;
    let grown = server.peak_resident_bytes()?.saturating_sub(memory);
    println!("{} connections: {} MiB", idle.len(), grown >> 20);
    ensure!(grown < MEMORY, "{} idle connections cost {} MiB", idle.len(), grown >> 20);
    drop(idle);
    wait::until("all are closed", Duration::from_secs(10), async || Ok(server.open_files()? <= files)).await?;
    unharmed(&mut server).await
}

#[tokio::test]
async fn ten_thousand_silent_connections_cost_little_and_disturb_nobody() -> Result<()> {
    ten_thousand(false).await
}

#[tokio::test]
async fn ten_thousand_idle_http2_clients_cost_little_and_disturb_nobody() -> Result<()> {
    ten_thousand(true).await
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_first_bytes_is_sent_away() -> Result<()> {
    let mut server = start(&[]).await?;
    let beginnings: [&[u8]; 3] = [b"", &PREFACE[..10], b"GET /health HTTP/1.1\r\nHost:"];
    let mut waiting = Vec::new();
    for beginning in beginnings {
        let mut wire = Wire::connect(&server).await?;
        wire.send(beginning).await?;
        waiting.push(async move {
            let what = String::from_utf8_lossy(beginning).into_owned();
            wire.until_closed_within(FIRST_BYTES).await.with_context(|| format!("after {what:?}"))
        });
    }
    futures::future::try_join_all(waiting).await?;
    unharmed(&mut server).await
}
