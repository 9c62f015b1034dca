//! HTTPS requests to one kube-apiserver, and its watches as streams of JSON lines. The plain API
//! instead of a Kubernetes client library, so that nothing retries, caches or hides an answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

/// Longer than the apiserver takes at most, so that its own answer is always seen.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

#[derive(Clone)]
pub struct Client {
    http: Http<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    token: String,
}

pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The beginning of the body, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(500).collect()
    }
}

impl Client {
    /// `certificate` holds the server's certificate chain, whose end is trusted.
    pub fn new(port: u16, token: &str, certificate: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for link in CertificateDer::pem_file_iter(certificate)? {
            roots.add(link?)?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self {
            http: Http::builder(TokioExecutor::new()).build(connector),
            base: format!("https://127.0.0.1:{port}"),
            token: format!("Bearer {token}"),
        })
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.call(Method::GET, path, None).await
    }

    /// One request and its whole answer, of whatever status.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let what = format!("{method} {path}");
        let answer = async {
            let response = self.send(method, path, body).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok(Answer { status, body })
        };
        tokio::time::timeout(ANSWER_LIMIT, answer)
            .await
            .unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_LIMIT:?}")))
            .context(what)
    }

    /// A watch; `path` has its parameters. An HTTP error becomes the watch's only event.
    pub async fn watch(&self, path: &str) -> Result<Watch> {
        let response = tokio::time::timeout(ANSWER_LIMIT, self.send(Method::GET, path, None))
            .await
            .with_context(|| format!("watch {path}: not opened within {ANSWER_LIMIT:?}"))?
            .with_context(|| format!("watch {path}"))?;
        let failed = !response.status().is_success();
        Ok(Watch { body: response.into_body(), buffer: BytesMut::new(), failed })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .uri(format!("{}{path}", self.base))
            .method(method)
            .header("authorization", &self.token)
            .header("content-type", content)
            .body(Full::from(body.map(Value::to_string).unwrap_or_default()))?;
        Ok(self.http.request(request).await?)
    }
}

pub struct Watch {
    body: Incoming,
    buffer: BytesMut,
    failed: bool,
}

impl Watch {
    /// The next event; `None` when the server ended the watch.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let value: Value = serde_json::from_slice(&line).context("a watch event")?;
                return Ok(Some(if self.failed { serde_json::json!({"type": "ERROR", "object": value}) } else { value }));
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("the watch ended within an event"),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
