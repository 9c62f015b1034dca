//! The connection to one member: dialled when it is needed, its name looked up each time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_consensus::PeerError;
use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};

use crate::grpc::{CallError, Connection};

/// After a dial has failed, calls fail at once for so long.
const REST: Duration = Duration::from_millis(20);

/// How long a member that was asked once may be silent.
const FOREIGN_PING: Duration = Duration::from_secs(5);
/// Bytes of what it answers.
const MAX_ANSWER: usize = 4 << 20;

/// How dialling went.
#[derive(Clone)]
enum Dialled {
    Up(Arc<Connection>, Instant),
    Failed(String, Instant),
}

/// The way to one member.
#[derive(Default)]
pub struct Link {
    last: Mutex<Option<Dialled>>,
    dialling: tokio::sync::Mutex<()>,
}

/// How long dialling, and the answer to a ping, may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection to be made.
    pub dial: Duration,
    /// Between pings, and for the answer to each.
    pub ping: Duration,
}

impl Link {
    /// The connection that is there, or why there was none a moment ago.
    pub fn known(&self) -> Option<Result<Arc<Connection>, PeerError>> {
        match &*self.last.lock() {
            Some(Dialled::Up(connection, _)) if !connection.is_over() => Some(Ok(connection.clone())),
            Some(Dialled::Failed(why, at)) if at.elapsed() < REST => Some(Err(PeerError::Unreachable(why.clone()))),
            _ => None,
        }
    }

    /// A connection that was in order a moment ago.
    pub async fn connection(&self, urls: &[String], patience: Patience) -> Result<Arc<Connection>, PeerError> {
        if let Some(known) = self.known() {
            return known;
        }
        let _one_at_a_time = self.dialling.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        let dialled = dial_any(urls, patience).await;
        let now = Instant::now();
        *self.last.lock() = Some(match &dialled {
            Ok(connection) => Dialled::Up(connection.clone(), now),
            Err(why) => Dialled::Failed(why.clone(), now),
        });
        dialled.map_err(PeerError::Unreachable)
    }

    /// Since when the member can be reached; `None` if it cannot.
    pub fn up_since(&self) -> Option<Instant> {
        match &*self.last.lock() {
            Some(Dialled::Up(connection, since)) if !connection.is_over() => Some(*since),
            _ => None,
        }
    }
}

async fn dial_any(urls: &[String], patience: Patience) -> Result<Arc<Connection>, String> {
    let mut why = "its address is not known".to_owned();
    for url in urls {
        match tokio::time::timeout(patience.dial, dial(url, patience.ping)).await {
            Ok(Ok(connection)) => return Ok(Arc::new(connection)),
            Ok(Err(e)) => why = format!("{url}: {e}"),
            Err(_) => why = format!("{url}: no connection within {:?}", patience.dial),
        }
    }
    Err(why)
}

/// A plain GET from a member that need not be of this cluster.
pub async fn get(url: &str, path: &str) -> Result<(http::HeaderMap, Vec<u8>), CallError> {
    dial(url, FOREIGN_PING).await?.get(path, MAX_ANSWER).await
}

async fn dial(url: &str, ping: Duration) -> Result<Connection, CallError> {
    let unsent = |e: String| CallError::Unsent(e);
    if let Some(path) = url.strip_prefix("unix://") {
        let stream = UnixStream::connect(path).await.map_err(|e| unsent(e.to_string()))?;
        return Connection::over(stream, ping).await;
    }
    let parsed = url::Url::parse(url).map_err(|e| unsent(e.to_string()))?;
    let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
        return Err(unsent("it has no host and port".into()));
    };
    // IPv6 addresses are in brackets in a URL only.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await.map_err(|e| unsent(e.to_string()))?;
    stream.set_nodelay(true).map_err(|e| unsent(e.to_string()))?;
    Connection::over(stream, ping).await
}
