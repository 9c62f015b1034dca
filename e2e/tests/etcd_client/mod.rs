//! The `etcd-client` crate, which many Rust programs use, works on the server as on etcd. Each test
//! is an ordinary use of the store, not a corner of the API.

mod kv;
mod lease;
mod operating;
mod watch;

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd_client::{Client, Error};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tonic::Code;

/// What is not answered by then is lost.
const LIMIT: Duration = Duration::from_secs(5);

async fn start() -> Result<(Server, Client)> {
    let server = Server::start(Program::under_test()?, &["--log-level", "warn"]).await?;
    let client = connect(&server).await?;
    Ok((server, client))
}

async fn connect(server: &Server) -> Result<Client> {
    Ok(Client::connect([server.client_url()], None).await?)
}

/// An answer of the server's that says no.
fn refused<T>(answer: Result<T, Error>, code: Code, text: &str) -> Result<()> {
    match answer {
        Err(Error::GRpcStatus(status)) => {
            ensure!((status.code(), status.message()) == (code, text), "{status:?}, not {code:?}: {text}");
            Ok(())
        }
        Err(other) => Err(other.into()),
        Ok(_) => anyhow::bail!("not refused with: {text}"),
    }
}
