//! The harness does to a server what its names say; every other test relies on that.

use anyhow::Result;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

async fn put(server: &Server) -> Result<()> {
    let mut kv = KvClient::connect(server.client_url()).await?;
    let put = PutRequest { key: "kept".into(), value: "value".into(), ..Default::default() };
    kv.put(put).await?;
    Ok(())
}

async fn count(server: &Server) -> Result<i64> {
    let mut kv = KvClient::connect(server.client_url()).await?;
    let range = RangeRequest { key: "kept".into(), ..Default::default() };
    Ok(kv.range(range).await?.into_inner().count)
}

#[tokio::test]
async fn data_and_address_survive_a_stop_and_a_crash_but_not_starting_over() -> Result<()> {
    let mut server = Server::start(Program::Etcd, &[]).await?;
    let url = server.client_url();
    put(&server).await?;

    server.stop().await?;
    assert!(count(&server).await.is_err());
    server.restart().await?;
    assert_eq!((count(&server).await?, server.client_url()), (1, url.clone()));

    server.kill();
    assert!(count(&server).await.is_err());
    server.restart().await?;
    assert_eq!(count(&server).await?, 1);

    server.start_over().await?;
    assert_eq!((count(&server).await?, server.client_url()), (0, url));
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_start_shows_its_log() {
    let error = Server::start(Program::Etcd, &["--no-such-flag"]).await.unwrap_err();
    assert!(format!("{error:#}").contains("no-such-flag"), "{error:#}");
}

#[tokio::test]
async fn nothing_is_left_of_a_server_that_is_dropped() -> Result<()> {
    let server = Server::start(Program::Etcd, &[]).await?;
    let (url, data) = (server.client_url(), server.data_dir());
    assert!(data.exists());
    drop(server);
    assert!(!data.exists());
    assert!(KvClient::connect(url).await.is_err());
    Ok(())
}
