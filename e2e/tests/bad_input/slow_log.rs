//! A log that nobody reads any more: what cannot be written is dropped, and no request waits for it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::wait;

use super::common::{start, unharmed};

/// Each makes a line of over 100 bytes, as it takes longer than a nanosecond: many times what a pipe holds.
const PUTS: usize = 3000;
const PIPE: u64 = 64 << 10;
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_log_line_that_cannot_be_written_holds_nothing_up() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pipe = dir.path().join("log");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "no pipe");
    // Open at both ends, so that the server can begin to write; nobody ever reads.
    let _open = std::fs::OpenOptions::new().read(true).write(true).open(&pipe)?;
    let file = dir.path().join("file");
    let both = format!("--log-outputs={},{}", pipe.display(), file.display());
    let mut server = start(&[&both, "--warning-unary-request-duration=1ns"]).await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    let puts = async {
        for number in 0..PUTS {
            kv.put(PutRequest { key: format!("{number}").into(), value: "v".into(), ..Default::default() }).await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, puts).await.context("puts are held up by the log")??;
    unharmed(&mut server).await?;
    // Other outputs have all of it, so the pipe was asked to hold more than it can.
    wait::until("the other log has all lines", LIMIT, async || Ok(std::fs::metadata(&file)?.len() > 4 * PIPE)).await?;
    server.stop().await
}
