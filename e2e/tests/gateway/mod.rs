//! The JSON gateway, and what else HTTP on the client port has: the same requests to etcd and to the
//! server under test must be answered alike. Ids and sizes are covered up, everything else is compared.

mod access;
mod calls;
mod http2;
mod streams;
mod websocket;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use serde_json::Value;

/// What is not answered by then is lost.
const LIMIT: Duration = Duration::from_secs(10);

/// etcd and what is compared with it.
struct Both([Server; 2]);

impl Both {
    async fn start(flags: &[&str]) -> Result<Self> {
        let flags = [&["--log-level", "warn"][..], flags].concat();
        let right = Program::under_test()?;
        let (etcd, other) = futures::join!(Server::start(Program::Etcd, &flags), Server::start(right, &flags));
        Ok(Self([etcd?, other?]))
    }

    /// Both their answers to a request.
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Result<[Answer; 2]> {
        let [etcd, other] = &self.0;
        let (etcd, other) = (etcd.client_url(), other.client_url());
        let asked = futures::join!(ask(&etcd, &method, path, headers, body), ask(&other, &method, path, headers, body));
        Ok([asked.0.context("etcd")?, asked.1.context("the server under test")?])
    }

    async fn post(&self, path: &str, body: &str) -> Result<[Answer; 2]> {
        self.ask(Method::POST, path, &[], body).await
    }
}

/// An answer, as far as it is compared.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<Value>,
}

/// Headers by which clients go.
const HEADERS: [&str; 6] = [
    "content-type",
    "grpc-metadata-content-type",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "www-authenticate",
];

fn told(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let value = |name: &'static str| headers.get(name).map(|v| (name, String::from_utf8_lossy(v.as_bytes()).into_owned()));
    HEADERS.into_iter().filter_map(value).collect()
}

/// Sends a request.
async fn send(url: &str, method: &Method, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Response<Incoming>> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().method(method).uri(format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned())))?;
    Ok(tokio::time::timeout(LIMIT, client.request(request)).await.with_context(|| format!("no answer of {path}"))??)
}

async fn ask(url: &str, method: &Method, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    let (head, body) = send(url, method, path, headers, body).await?.into_parts();
    let body = tokio::time::timeout(LIMIT, body.collect()).await.with_context(|| format!("{path} does not end"))??.to_bytes();
    Ok(Answer { status: head.status.as_u16(), headers: told(&head.headers), body: values(&body)? })
}

/// The JSON values of a body, or its text if it is none.
fn values(body: &[u8]) -> Result<Vec<Value>> {
    let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    Ok(match values {
        Ok(values) => values.into_iter().map(cover_up).collect(),
        Err(_) => vec![Value::String(String::from_utf8(body.to_vec())?)],
    })
}

/// What differs between any two servers, or between two kinds of store.
const COVERED: [&str; 18] = [
    "cluster_id",
    "member_id",
    "memberID",
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "leader_id",
    "leader",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "hash",
    "storageVersion",
    "peerURLs",
    "clientURLs",
    "downgradeInfo",
    "hash_revision",
];

/// Covers up such values, but not that they are there, and blanks that etcd's library varies from build to build.
fn cover_up(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let cover = |(name, value): (String, Value)| {
                let plain = !value.is_object() && COVERED.contains(&name.as_str());
                let value = if plain { Value::String("...".into()) } else { cover_up(value) };
                (name, value)
            };
            Value::Object(fields.into_iter().map(cover).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(cover_up).collect()),
        Value::String(text) => Value::String(text.replace('\u{a0}', " ")),
        other => other,
    }
}

/// The lines of an answer that need not end, as many as are asked for.
async fn lines(url: &str, path: &str, body: &str, count: usize) -> Result<(Answer, Incoming)> {
    let (head, mut rest) = send(url, &Method::POST, path, &[], body).await?.into_parts();
    let mut text = Vec::new();
    while text.iter().filter(|b| **b == b'\n').count() < count {
        let frame = tokio::time::timeout(LIMIT, rest.frame()).await.with_context(|| format!("{path} says no more"))?;
        let frame = frame.with_context(|| format!("{path} has ended after {}", String::from_utf8_lossy(&text)))??;
        text.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    let body = values(&text)?;
    ensure!(body.len() == count, "more lines than expected: {body:?}");
    Ok((Answer { status: head.status.as_u16(), headers: told(&head.headers), body }, rest))
}
