//! A port that somebody else has: the server ends with a non-zero code and says which one it is.

use anyhow::{Context, Result, ensure};
use tokio::net::TcpListener;

use super::common::start;

#[tokio::test]
async fn every_port_that_is_taken_is_named_when_the_server_ends_over_it() -> Result<()> {
    let mut server = start(&[]).await?;
    server.kill();
    for url in [server.client_url(), server.peer_url()] {
        let address = url.replace("http://", "");
        let taken = TcpListener::bind(&address).await?;
        let before = server.log().len();
        ensure!(server.restart().await.is_err(), "the server started without {address}");
        let status = server.exit_status()?.context("the server has to end by itself")?;
        ensure!(status.code().is_some_and(|code| code != 0), "it ended with {status}");
        let said = server.log().split_off(before);
        ensure!(said.contains(&address) && said.contains("address already in use"), "{address} is not named:\n{said}");
        drop(taken);
        server.kill();
    }
    server.restart().await
}
