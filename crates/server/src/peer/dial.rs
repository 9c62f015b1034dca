//! Dialling members: names are looked up each time, and an https URL is answered by whoever has the certificate for
//! its host.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::grpc::{CallError, Connection};
use crate::{lookup, tls};

/// How long a member that is asked once over HTTP may be silent.
const FOREIGN_PING: Duration = Duration::from_secs(5);
/// Bytes of what a member that is asked over HTTP may answer.
const MAX_ANSWER: usize = 4 << 20;

/// How members are dialled.
#[derive(Clone)]
pub struct Dialer {
    /// For a connection to be made, its handshake included.
    pub limit: Duration,
    /// Between pings, and for the answer to each.
    pub ping: Duration,
    /// For https; without it only http can be dialled.
    pub tls: Option<Arc<tls::Client>>,
}

fn unsent(e: impl std::fmt::Display) -> CallError {
    CallError::Unsent(e.to_string())
}

impl Dialer {
    /// A connection to the first of the URLs that can be reached.
    pub async fn any(&self, urls: &[String]) -> Result<Arc<Connection>, String> {
        let mut why = "its address is not known".to_owned();
        for url in urls {
            match self.dial(url).await {
                Ok(connection) => return Ok(Arc::new(connection)),
                Err(e) => why = format!("{url}: {e}"),
            }
        }
        Err(why)
    }

    /// A plain GET from a member that need not be of this cluster.
    pub async fn get(&self, url: &str, path: &str) -> Result<(http::HeaderMap, Vec<u8>), CallError> {
        let patient = Self { ping: FOREIGN_PING, ..self.clone() };
        patient.dial(url).await?.get(path, MAX_ANSWER).await
    }

    /// A connection.
    pub async fn dial(&self, url: &str) -> Result<Connection, CallError> {
        let dialled = tokio::time::timeout(self.limit, self.unlimited(url)).await;
        dialled.unwrap_or_else(|_| Err(unsent(format!("no connection within {:?}", self.limit))))
    }

    async fn unlimited(&self, url: &str) -> Result<Connection, CallError> {
        if let Some((scheme, path)) = url.split_once("://").filter(|(scheme, _)| scheme.starts_with("unix")) {
            let stream = UnixStream::connect(path).await.map_err(unsent)?;
            return self.speak(stream, scheme == "unixs", "localhost").await;
        }
        let parsed = url::Url::parse(url).map_err(unsent)?;
        let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
            return Err(unsent("it has no host and port"));
        };
        // IPv6 addresses are in brackets in a URL only.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect(&lookup::addresses(host, port).await.map_err(unsent)?[..]).await.map_err(unsent)?;
        stream.set_nodelay(true).map_err(unsent)?;
        self.speak(stream, parsed.scheme() == "https", host).await
    }

    async fn speak<T>(&self, stream: T, is_secure: bool, host: &str) -> Result<Connection, CallError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if !is_secure {
            return Connection::over(stream, self.ping).await;
        }
        let tls = self.tls.as_ref().ok_or_else(|| {
            unsent("it is https, and this member has no certificates for that: set --peer-cert-file, --peer-key-file and --peer-trusted-ca-file")
        })?;
        let stream = tls.connect(host, stream).await.map_err(unsent)?;
        Connection::over(stream, self.ping).await
    }
}
