//! Clients that begin a handshake and never end it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_e2e::pki::Pki;
use keelson_e2e::program::Program;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::common::{ask, prepared};

/// More than there is room for.
const SILENT: usize = 400;
/// Much less than the time a handshake may take.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn handshakes_that_never_end_keep_nobody_out() -> Result<()> {
    let pki = Arc::new(Pki::new()?);
    let (mut server, reservation) = prepared(Program::under_test()?, &pki, &[])?;
    drop(reservation);
    server.set_ulimit("-n 300");
    server.restart().await?;
    let address = server.client_url().trim_start_matches("https://").to_owned();
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut stream = TcpStream::connect(&address).await?;
        if number % 2 == 0 {
            // The first bytes of a handshake.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await?;
        }
        silent.push(stream);
    }
    let asked = Instant::now();
    ask(&server.client_url(), Some(pki.trusting(Some("client"))?)).await.context("among the silent")?;
    println!("answered after {:?}", asked.elapsed());
    ensure!(asked.elapsed() < SOON, "answered after {:?}", asked.elapsed());
    drop(silent);
    server.stop().await
}
