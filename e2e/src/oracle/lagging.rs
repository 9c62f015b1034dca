//! Asks a server's metrics how many of its watches lag behind.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait;

const METRIC: &str = "etcd_debugging_mvcc_slow_watcher_total ";
const LIMIT: Duration = Duration::from_secs(10);

/// Waits until no watch of the server at `url` lags.
pub(super) async fn wait_for_none(url: &str) -> Result<()> {
    wait::until("no watch lags", LIMIT, async || Ok(count(url).await? == 0.0)).await
}

async fn count(url: &str) -> Result<f64> {
    let address = url.strip_prefix("http://").context("the server is addressed as http://")?;
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let line = answer.lines().find_map(|line| line.strip_prefix(METRIC)).context("the metric of lagging watches is missing")?;
    Ok(line.trim().parse()?)
}
