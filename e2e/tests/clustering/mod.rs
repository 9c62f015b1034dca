//! Clusters as people run them: members that come and go, lag, differ, hang, and are cut off from each other. What
//! can be compared is compared with three members of etcd.

mod addresses;
mod broken_transfer;
mod burden;
mod clock;
mod crashes;
mod cut;
mod data;
mod disk;
mod failover;
mod five;
mod lagging;
mod leader;
mod learner;
mod leases;
mod members;
mod progress;
mod refused;
mod strays;
mod upgrade;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use rand::RngCore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Request, Status};

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(40);
/// Longest that one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);

async fn three(flags: &[&str]) -> Result<Cluster> {
    Cluster::start(Program::under_test()?, 3, flags).await
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

/// The same for a client that wants to hear at once when there is no leader.
fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().expect("it is plain text"));
    request
}

/// What a refusal says.
fn said<T>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(_) => "accepted".to_owned(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

/// What plain HTTP answers on one of a server's ports.
pub async fn http(url: &str, path: &str) -> Result<String> {
    let address = url.replace("http://", "");
    let ask = async {
        let mut connection = TcpStream::connect(&address).await?;
        connection.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    tokio::time::timeout(CALL_LIMIT, ask).await.with_context(|| format!("{address}{path} does not answer"))?
}

/// All metrics of a server, by name and labels.
pub async fn metrics(server: &Server) -> Result<BTreeMap<String, f64>> {
    let text = http(&server.client_url(), "/metrics").await?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, v)| Some((name.to_owned(), v.parse().ok()?))).collect())
}

/// Sum of a metric over all its labels; `None` if it is not there.
pub fn sum(metrics: &BTreeMap<String, f64>, name: &str) -> Option<f64> {
    let of_it = |key: &&String| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    metrics.keys().any(|key| of_it(&key)).then(|| metrics.iter().filter(|(key, _)| of_it(key)).map(|(_, v)| v).sum())
}

/// Waits until a server that must end by itself has, and says with which code.
async fn exit_code(server: &mut Server) -> Result<u8> {
    let mut code = None;
    wait::until("the process ends", LIMIT, async || {
        if let Some(status) = server.exit_status()? {
            code = Some(u8::try_from(status.code().context("it was not killed")?)?);
        }
        Ok(code.is_some())
    })
    .await
    .with_context(|| server.log_tail())?;
    code.context("it has ended")
}

/// Writes through one member, many at a time: enough for the others to be sent a whole state, if `bytes` are.
async fn fill(server: &Server, keys: std::ops::Range<usize>, value_bytes: usize) -> Result<()> {
    fill_with(server, keys, || vec![b'v'; value_bytes]).await
}

/// The same with values that do not get smaller by being compressed: a state that takes its time to be sent.
async fn fill_randomly(server: &Server, keys: std::ops::Range<usize>, value_bytes: usize) -> Result<()> {
    let random = || {
        let mut value = vec![0; value_bytes];
        rand::rng().fill_bytes(&mut value);
        value
    };
    fill_with(server, keys, random).await
}

async fn fill_with(server: &Server, keys: std::ops::Range<usize>, value: impl Fn() -> Vec<u8>) -> Result<()> {
    let kv = KvClient::connect(server.client_url()).await?;
    let puts = keys.map(|n| {
        let (mut kv, value) = (kv.clone(), value());
        async move {
            let put = PutRequest { key: format!("fill/{}", n % 500).into(), value: value.into(), ..Default::default() };
            kv.put(limited(put)).await
        }
    });
    let mut puts = futures::stream::iter(puts).buffer_unordered(32);
    while let Some(put) = puts.next().await {
        if let Err(e) = put {
            bail!("a put was refused while the store was filled: {e}");
        }
    }
    Ok(())
}
