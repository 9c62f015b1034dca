//! Calls at a member's port that no sound member makes: made by hand, by an old copy of a member, or through a proxy.

use std::fs;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::server::Server;
use tokio::net::TcpStream;

use super::{CALL_LIMIT, http as plain, three};

/// No member has it.
const NOBODY: u64 = 0xabc_def7;
const FAILED_PRECONDITION: &str = "9";

/// What a call says of the caller, and of the member that it is for.
struct Speaker<'a> {
    from: u64,
    data_dir: &'a str,
    to_data_dir: &'a str,
}

/// The answer's headers, to a call for the member of this number.
async fn call(cluster: &Cluster, number: usize, as_speaker: &Speaker<'_>) -> Result<HeaderMap> {
    let cluster_id = cluster.status(number).await?.header.context("a status has a header")?.cluster_id;
    let stream = TcpStream::connect(cluster.members[number].peer_url().replace("http://", "")).await?;
    let (requests, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let request = Request::post("http://peer/keelson.peer.Peer/ReadIndex")
        .header("content-type", "application/grpc")
        .header("keelson-cluster", format!("{cluster_id:x}"))
        .header("keelson-from", format!("{:x}", as_speaker.from))
        .header("keelson-to", format!("{:x}", cluster.id(number).await?))
        .header("keelson-data-dir", as_speaker.data_dir)
        .header("keelson-to-data-dir", as_speaker.to_data_dir)
        .body(())?;
    let (response, mut body) = requests.ready().await?.send_request(request, false)?;
    body.send_data(Bytes::from_static(&[0; 5]), true)?;
    let response = tokio::time::timeout(CALL_LIMIT, response).await.context("no answer")??;
    let headers = response.headers().clone();
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        piece?;
    }
    driver.abort();
    Ok(headers)
}

fn uuid(server: &Server) -> Result<String> {
    let identity: serde_json::Value = serde_json::from_slice(&fs::read(server.data_dir().join("identity.json"))?)?;
    Ok(identity["uuid"].as_str().context("a uuid")?.to_owned())
}

#[tokio::test]
async fn a_call_that_is_wrong_about_a_members_data_does_not_end_it() -> Result<()> {
    let mut cluster = three(&[]).await?;
    cluster.agree(&[0, 1, 2]).await?;
    let (from, data_dir) = (cluster.id(0).await?, uuid(&cluster.members[0])?);
    for from in [from, NOBODY] {
        let said = call(&cluster, 1, &Speaker { from, data_dir: &data_dir, to_data_dir: "another" }).await?;
        ensure!(said["grpc-status"] == FAILED_PRECONDITION && !said.contains_key("keelson-refusal"), "{said:?}");
    }
    let said = call(&cluster, 1, &Speaker { from, data_dir: "old", to_data_dir: "another" }).await?;
    ensure!(said["keelson-refusal"] == "data-gone", "the caller has lost its data, whatever it says of others: {said:?}");
    cluster.put(1, "still", "here").await?;
    ensure!(cluster.members[1].exit_status()?.is_none());
    Ok(())
}

#[tokio::test]
async fn callers_that_nobody_knows_leave_no_metrics_behind() -> Result<()> {
    let cluster = three(&[]).await?;
    cluster.agree(&[0, 1, 2]).await?;
    let told = uuid(&cluster.members[1])?;
    for from in NOBODY..NOBODY + 3 {
        call(&cluster, 1, &Speaker { from, data_dir: "x", to_data_dir: &told }).await?;
    }
    let metrics = plain(&cluster.members[1].client_url(), "/metrics").await?;
    ensure!(metrics.contains("From=\"") && !metrics.contains(&format!("From=\"{NOBODY:x}\"")), "{metrics}");
    Ok(())
}
