//! What every test here asks in the end: is the server still whole?

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

/// A client that did nothing wrong does not notice what others do: a write and a read take no longer.
pub const SERVED_WITHIN: Duration = Duration::from_secs(2);

pub async fn start(flags: &[&str]) -> Result<Server> {
    start_as(Program::under_test()?, flags).await
}

pub async fn start_as(program: Program, flags: &[&str]) -> Result<Server> {
    let flags: Vec<&str> = flags.iter().copied().chain(["--log-level", "warn"]).collect();
    Server::start(program, &flags).await
}

/// The process lives, has not panicked in any of its threads, and serves a new client in time.
pub async fn unharmed(server: &mut Server) -> Result<()> {
    ensure!(server.exit_status()?.is_none(), "the process has ended");
    let log = server.log();
    ensure!(!log.contains("panicked"), "a panic:\n{}", server.log_tail());
    let begun = Instant::now();
    let mut kv = KvClient::connect(server.client_url()).await.context("connecting")?;
    let value = format!("{begun:?}");
    kv.put(PutRequest { key: "unharmed".into(), value: value.clone().into(), ..Default::default() }).await?;
    let read = kv.range(RangeRequest { key: "unharmed".into(), ..Default::default() }).await?.into_inner();
    ensure!(read.kvs.len() == 1 && read.kvs[0].value == value, "a write was acknowledged and cannot be read");
    let took = begun.elapsed();
    ensure!(took < SERVED_WITHIN, "a write and a read took {took:?}");
    Ok(())
}
