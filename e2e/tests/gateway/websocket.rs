//! Websockets, spoken by hand: few messages, all of them short.

use anyhow::{Context, Result, ensure};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::{LIMIT, cover_up};

const TEXT: u8 = 0x81;

struct Socket {
    io: BufStream<TcpStream>,
    /// Head of the answer to the request that made it one.
    head: String,
}

impl Socket {
    async fn open(server: &Server, path: &str, headers: &str) -> Result<Self> {
        let address = server.client_url().replace("http://", "");
        let mut io = BufStream::new(TcpStream::connect(&address).await?);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        io.write_all(request.as_bytes()).await?;
        io.flush().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::time::timeout(LIMIT, io.read_u8()).await.context("no answer")??);
        }
        Ok(Self { io, head: String::from_utf8(head)?.to_lowercase() })
    }

    async fn say(&mut self, text: &str) -> Result<()> {
        let length = u8::try_from(text.len())?;
        ensure!(length < 126, "too long for this");
        // A mask of zeros changes nothing.
        self.io.write_all(&[TEXT, 0x80 | length, 0, 0, 0, 0]).await?;
        self.io.write_all(text.as_bytes()).await?;
        Ok(self.io.flush().await?)
    }

    async fn hear(&mut self) -> Result<Value> {
        let message = async {
            let kind = self.io.read_u8().await?;
            ensure!(kind == TEXT, "a message of the kind {kind:#x}");
            let length = match self.io.read_u8().await? {
                126 => usize::from(self.io.read_u16().await?),
                length => usize::from(length),
            };
            let mut text = vec![0; length];
            self.io.read_exact(&mut text).await?;
            Ok(cover_up(serde_json::from_slice(&text)?))
        };
        tokio::time::timeout(LIMIT, message).await.context("no message")?
    }
}

/// What a conversation of a watcher hears.
async fn conversation(program: Program) -> Result<Vec<Value>> {
    let server = Server::start(program, &["--log-level", "warn"]).await?;
    let mut socket = Socket::open(&server, "/v3/watch", "Sec-WebSocket-Protocol: Bearer, token\r\n").await?;
    ensure!(socket.head.starts_with("http/1.1 101"), "{}", socket.head);
    for line in ["sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", "sec-websocket-protocol: bearer"] {
        ensure!(socket.head.contains(line), "{}", socket.head);
    }
    let mut heard = Vec::new();
    for create in [r#"{"create_request":{"key":"Zm9v","watch_id":1}}"#, r#"{"create_request":{"key":"YmFy","watch_id":2}}"#] {
        socket.say(create).await?;
        heard.push(socket.hear().await?);
    }
    let put = r#"{"key":"YmFy","value":"YQ=="}"#;
    super::ask(&server.client_url(), &hyper::Method::POST, "/v3/kv/put", &[], put).await?;
    heard.push(socket.hear().await?);
    socket.say(r#"{"cancel_request":{"watch_id":1}}"#).await?;
    heard.push(socket.hear().await?);
    Ok(heard)
}

#[tokio::test]
async fn a_watch_is_a_conversation() -> Result<()> {
    let expected = conversation(Program::Etcd).await.context("etcd")?;
    let heard = conversation(Program::under_test()?).await.context("the server under test")?;
    assert_eq!(expected, heard);
    Ok(())
}

#[tokio::test]
async fn what_is_no_proper_request_for_a_websocket_is_refused() -> Result<()> {
    for program in [Program::Etcd, Program::under_test()?] {
        let server = Server::start(program, &["--log-level", "error"]).await?;
        let url = server.client_url();
        let headers = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        let without_key = super::ask(&url, &hyper::Method::GET, "/v3/watch", &headers, "").await?;
        assert_eq!(without_key.status, 400, "{}", program.name());
        let posted = super::ask(&url, &hyper::Method::POST, "/v3/watch", &headers, "").await?;
        assert_eq!(posted.status, 405, "{}", program.name());
    }
    Ok(())
}
