//! The gateway over HTTP/2, on the port of the calls. Without TLS etcd has no such thing, so what it answers
//! over HTTP/1 is the measure.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::RecvStream;
use hyper::Method;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tokio::net::TcpStream;

use super::{Answer, LIMIT, ask, told, values};

/// Sends a request over a connection of its own.
async fn post(url: &str, path: &str, body: &str) -> Result<http::Response<RecvStream>> {
    let io = TcpStream::connect(url.replace("http://", "")).await?;
    let (client, connection) = h2::client::handshake(io).await?;
    // It ends with the last of what belongs to it.
    tokio::spawn(async move { drop(connection.await) });
    let mut client = client.ready().await?;
    let request = http::Request::post(format!("{url}{path}")).header("content-type", "application/json").body(())?;
    let (response, mut stream) = client.send_request(request, false)?;
    stream.send_data(Bytes::from(body.to_owned()), true)?;
    Ok(tokio::time::timeout(LIMIT, response).await.with_context(|| format!("no answer of {path}"))??)
}

/// Reads up to a number of lines, or to the end.
async fn read(body: &mut RecvStream, lines: usize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while text.iter().filter(|b| **b == b'\n').count() < lines {
        let Some(piece) = tokio::time::timeout(LIMIT, body.data()).await.context("no more is said")? else { break };
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

#[tokio::test]
async fn calls_and_streams_are_answered_as_over_http1() -> Result<()> {
    if Program::under_test()? == Program::Etcd {
        return Ok(());
    }
    let server = Server::start(Program::Keelson, &["--log-level", "warn"]).await?;
    let url = server.client_url();
    for (path, body) in [
        ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
        ("/v3/kv/range", "{}"),
        ("/v3/kv/nothing", "{}"),
        ("/v3/lease/keepalive", r#"{"ID":"77"}"#),
    ] {
        let (head, mut rest) = post(&url, path, body).await?.into_parts();
        let text = read(&mut rest, usize::MAX).await?;
        let answer = Answer { status: head.status.as_u16(), headers: told(&head.headers), body: values(&text)? };
        assert_eq!(answer, ask(&url, &Method::POST, path, &[], body).await?, "{path} {body}");
    }
    // Longer than a window of HTTP/2.
    let value = "AAAA".repeat(300_000);
    let put = post(&url, "/v3/kv/put", &format!(r#"{{"key":"Zm9v","value":"{value}"}}"#)).await?;
    assert_eq!(put.status().as_u16(), 200);
    let mut long = post(&url, "/v3/kv/range", r#"{"key":"Zm9v"}"#).await?.into_body();
    ensure!(String::from_utf8(read(&mut long, usize::MAX).await?)?.contains(&value), "the value has changed");

    let mut watch = post(&url, "/v3/watch", r#"{"create_request":{"key":"Zm9v"}}"#).await?.into_body();
    ensure!(String::from_utf8(read(&mut watch, 1).await?)?.contains(r#""created":true"#));
    ask(&url, &Method::POST, "/v3/kv/put", &[], r#"{"key":"Zm9v","value":"YQ=="}"#).await?;
    ensure!(String::from_utf8(read(&mut watch, 1).await?)?.contains(r#""value":"YQ==""#));
    Ok(())
}
