//! Each connection is an open file, and so is each file of the store. Clients may use up their share,
//! not the store's.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::program::Program;
use keelson_e2e::raw::wire::{Wire, kind};
use keelson_e2e::server::Server;

use super::common::{start_as, unharmed};

/// Enough for the store, and fewer than clients will open.
const FEW: &str = "-n 300";
/// The same, when the server may help itself to more.
const FEW_AT_FIRST: &str = "-Sn 300";
const CONNECTIONS: usize = 400;
/// So much is written that the store has to begin new files.
const WRITTEN: usize = 150;

async fn limited(program: Program, ulimit: &'static str) -> Result<Server> {
    let mut server = start_as(program, &[]).await?;
    server.stop().await?;
    server.set_ulimit(ulimit);
    server.restart().await?;
    Ok(server)
}

/// As many systems start a service: with 1024 files, and the right to have far more.
async fn more_clients_than_the_soft_limit(program: Program) -> Result<()> {
    let mut server = limited(program, FEW_AT_FIRST).await?;
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let mut wire = Wire::open(&server).await?;
        wire.until(kind::SETTINGS).await.with_context(|| format!("connection {number}"))?;
        connections.push(wire);
    }
    unharmed(&mut server).await
}

#[tokio::test]
async fn a_low_soft_limit_of_open_files_is_raised_as_etcd_does() -> Result<()> {
    more_clients_than_the_soft_limit(Program::Etcd).await.context("etcd")?;
    more_clients_than_the_soft_limit(Program::under_test()?).await
}

async fn out_of_files(program: Program) -> Result<()> {
    let mut server = limited(program, FEW).await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        // Accepted by the system, though not by the server.
        connections.push(Wire::open(&server).await?);
    }
    for number in 0..WRITTEN {
        let value = vec![b'v'; 1 << 20].into();
        let put = PutRequest { key: "key".into(), value, ..Default::default() };
        kv.put(put).await.with_context(|| format!("write {number}\n{}", server.log_tail()))?;
    }
    drop(connections);
    unharmed(&mut server).await?;
    server.kill();
    server.restart().await?;
    ensure!(server.log().matches("panicked").count() == 0, "{}", server.log_tail());
    unharmed(&mut server).await
}

#[tokio::test]
async fn clients_that_use_up_all_files_do_not_take_those_of_the_store() -> Result<()> {
    out_of_files(Program::Etcd).await.context("etcd")?;
    out_of_files(Program::under_test()?).await
}
