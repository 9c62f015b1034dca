//! Large answers of the JSON gateway that nobody takes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::common::{start, unharmed};

const VALUE: usize = 64 << 10;
/// 96 MiB together.
const KEYS: usize = 1536;
const CLIENTS: usize = 24;
/// What all clients together may cost, and what the store keeps of what it reads.
const MEMORY: u64 = 384 << 20;
/// Somebody who takes nothing for a minute is sent away.
const SENT_AWAY: Duration = Duration::from_secs(100);

async fn fill(server: &Server) -> Result<()> {
    let kv = KvClient::connect(server.client_url()).await?;
    let put = async |n: usize| {
        let put = PutRequest { key: format!("large/{n}").into(), value: vec![b'v'; VALUE].into(), ..Default::default() };
        kv.clone().put(put).await
    };
    stream::iter(0..KEYS).map(put).buffer_unordered(8).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// A client that asks for everything and reads the first byte of the answer.
async fn ask(server: &Server) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server.client_url().replace("http://", "")).await?;
    let body = r#"{"key":"AA==","range_end":"AA=="}"#;
    let head = format!("POST /v3/kv/range HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.read_u8().await.context("no answer")?;
    Ok(stream)
}

#[tokio::test]
async fn large_answers_that_nobody_takes_cost_little_and_are_cut_off() -> Result<()> {
    if Program::under_test()? == Program::Etcd {
        // It holds each of them whole, for as long as its client likes.
        return Ok(());
    }
    let mut server = start(&[]).await?;
    fill(&server).await?;
    unharmed(&mut server).await?;
    let (before, files) = (server.peak_resident_bytes()?, server.open_files()?);
    let clients: Vec<TcpStream> = stream::iter(0..CLIENTS).then(|_| ask(&server)).try_collect().await?;
    unharmed(&mut server).await?;
    let grown = server.peak_resident_bytes()?.saturating_sub(before);
    println!("{CLIENTS} answers of {} MiB that nobody takes: {} MiB", (KEYS * VALUE) >> 20, grown >> 20);
    ensure!(grown < MEMORY, "{} MiB", grown >> 20);
    ensure!(server.open_files()? >= files + CLIENTS, "there are no connections left");
    let gone = async {
        // The store opens files of its own now and then.
        while server.open_files()? > files + CLIENTS / 2 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SENT_AWAY, gone).await.context("nobody is sent away")??;
    drop(clients);
    unharmed(&mut server).await
}
