//! A read that has to wait for the disk waits on a thread of its own: what is in memory is answered meanwhile, on the same
//! connection too, and writes go on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use keelson_e2e::chaos::stall::Stall;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tonic::transport::Channel;

/// Larger than a block of the store, so that reading one brings no other into memory.
const VALUE: usize = 100_000;
const COLD: usize = 40;
/// Reads and writes while others wait for the disk.
const WARM_CALLS: usize = 200;
/// A call that does not wait for the disk is answered sooner than that.
const SOON: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(20);

async fn put(kv: &mut KvClient<Channel>, key: &str, bytes: usize) -> Result<()> {
    let put = PutRequest { key: key.to_owned().into(), value: vec![b'v'; bytes].into(), ..Default::default() };
    kv.put(put).await?;
    Ok(())
}

async fn get(mut kv: KvClient<Channel>, key: String) -> Result<usize> {
    let range = RangeRequest { key: key.into(), ..Default::default() };
    Ok(kv.range(range).await?.into_inner().kvs.first().context("the key is there")?.value.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_for_the_disk_hold_up_nothing_else_on_their_connection() -> Result<()> {
    let mut server = Server::start(Program::Keelson, &[]).await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    put(&mut kv, "warm", VALUE).await?;
    for number in 0..COLD {
        put(&mut kv, &format!("cold/{number}"), VALUE).await?;
    }
    // A clean stop writes everything out, and the next process has read nothing of it.
    server.stop().await?;
    let stall = Stall::install_for_reads(&mut server)?;
    server.restart().await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    ensure!(get(kv.clone(), "warm".to_owned()).await? == VALUE);

    stall.set(true)?;
    let cold: Vec<_> = (0..COLD).map(|number| tokio::spawn(get(kv.clone(), format!("cold/{number}")))).collect();
    for number in 0..WARM_CALLS {
        let read = tokio::time::timeout(SOON, get(kv.clone(), "warm".to_owned())).await;
        ensure!(read.context("a read of what is in memory waits for the disk")?? == VALUE);
        let write = tokio::time::timeout(SOON, put(&mut kv, "written", number)).await;
        write.context("a write waits for the reads of others")??;
    }
    let waiting = cold.iter().filter(|read| !read.is_finished()).count();
    ensure!(waiting > 0, "no read had to wait for the disk: nothing was tried");
    println!("{waiting} of {COLD} reads were waiting");
    stall.set(false)?;
    for read in cold {
        let found = tokio::time::timeout(LIMIT, read).await.context("a read goes on waiting")???;
        ensure!(found == VALUE);
    }
    Ok(())
}
