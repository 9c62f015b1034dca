//! One gRPC call over HTTP/2, with any headers and any bytes as its body, and all of the answer.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};
use keelson_api::etcdserverpb::RangeRequest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{ANSWER_LIMIT, framed};
use crate::server::Server;

/// What the client does after its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Ends its side of the stream, as it should.
    Closes,
    /// Says no more.
    Hangs,
}

/// A call to be sent. It starts out flawless; each method makes one thing different.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Bytes,
    end: End,
}

impl Call {
    /// A read of one key.
    pub fn range() -> Self {
        let request = RangeRequest { key: "key".into(), ..Default::default() };
        Self {
            method: Method::POST,
            path: "/etcdserverpb.KV/Range".into(),
            headers: vec![("content-type", b"application/grpc".to_vec()), ("te", b"trailers".to_vec())],
            body: framed(&request),
            end: End::Closes,
        }
    }

    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// Sets a header, or adds it.
    pub fn header(self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        let mut call = self.without(name);
        call.headers.push((name, value.into()));
        call
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| *n != name);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The stream stays open behind the body.
    pub fn hangs(mut self) -> Self {
        self.end = End::Hangs;
        self
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Code, text and whole body of a gRPC answer.
    Grpc { code: i32, text: String, body: Vec<u8> },
    /// An HTTP answer without a gRPC status.
    Http(u16),
    /// The stream was reset, or the connection given up.
    Ended(Option<Reason>),
    /// Nothing, for as long as a client would wait.
    Silence,
}

impl Answer {
    /// The code and text of a gRPC answer, or what else came.
    pub fn status(&self) -> (i32, &str) {
        match self {
            Answer::Grpc { code, text, .. } => (*code, text),
            _ => (-1, "not a gRPC answer"),
        }
    }
}

/// A connection that calls are made on.
pub struct Connection {
    send: SendRequest<Bytes>,
    authority: String,
    driver: JoinHandle<()>,
}

impl Connection {
    pub async fn open(server: &Server) -> Result<Self> {
        let authority = server.client_url().replace("http://", "");
        let (send, connection) = h2::client::handshake(TcpStream::connect(&authority).await?).await?;
        let driver = tokio::spawn(async move {
            // How it ends is told to every call on it.
            let _ = connection.await;
        });
        Ok(Self { send, authority, driver })
    }

    /// Makes a call and waits for whatever comes back.
    pub async fn call(&self, call: &Call) -> Result<Answer> {
        self.call_for(call, ANSWER_LIMIT).await
    }

    /// The same, when a silent server is what is expected.
    pub async fn call_for(&self, call: &Call, limit: Duration) -> Result<Answer> {
        let mut request = Request::builder().method(&call.method).uri(format!("http://{}{}", self.authority, call.path));
        for (name, value) in &call.headers {
            request = request.header(*name, value.as_slice());
        }
        let request = request.body(()).context("the test's request")?;
        match tokio::time::timeout(limit, self.exchange(request, call)).await {
            Err(_) => Ok(Answer::Silence),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Ok(Answer::Ended(error.reason())),
        }
    }

    async fn exchange(&self, request: Request<()>, call: &Call) -> Result<Answer, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let ends = call.end == End::Closes;
        let (response, mut body) = send.send_request(request, ends && call.body.is_empty())?;
        if !call.body.is_empty() {
            body.send_data(call.body.clone(), ends)?;
        }
        let (head, mut answer) = response.await?.into_parts();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.data().await {
            let chunk = chunk?;
            answer.flow_control().release_capacity(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        let trailers = answer.trailers().await?.unwrap_or_default();
        let status = status(&trailers).or_else(|| status(&head.headers));
        Ok(status.map_or(Answer::Http(head.status.as_u16()), |(code, text)| Answer::Grpc { code, text, body: bytes }))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn status(headers: &HeaderMap) -> Option<(i32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let text = headers.get("grpc-message").map(|v| percent_decode(v.as_bytes())).unwrap_or_default();
    Some((code, text))
}

fn percent_decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten();
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_grpc_encodes_them() {
        assert_eq!(percent_decode(b"100%25 %C3%A9 %zz %"), "100% é %zz %");
    }
}
