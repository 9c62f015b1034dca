//! Connections to the server under test, and what an error of theirs can mean: an answer, or
//! silence that leaves open whether the request took effect.

use std::time::Duration;

use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Values are read back many at a time.
const MAX_MESSAGE: usize = 1 << 30;
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// Why an audit or a client could not go on.
#[derive(Debug)]
pub enum Stop {
    /// The server did not answer; fine if it was killed, an error if it still runs.
    Silent(String),
    /// The server broke a promise.
    Broken(String),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        if is_silence(&status) { Stop::Silent(status.to_string()) } else { Stop::Broken(format!("unexpected answer: {status}")) }
    }
}

/// Whether the request may have taken effect although it failed.
pub fn is_silence(status: &Status) -> bool {
    use Code::*;
    matches!(status.code(), Unavailable | Unknown | Cancelled | DeadlineExceeded | Internal | Aborted)
}

#[derive(Clone)]
pub struct Clients {
    pub kv: KvClient<Channel>,
    pub lease: LeaseClient<Channel>,
    pub watch: WatchClient<Channel>,
    pub maintenance: MaintenanceClient<Channel>,
}

impl Clients {
    pub async fn connect(url: &str) -> Result<Self, Stop> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|e| Stop::Broken(e.to_string()))?;
        // Watches last longer than any request: they have a connection without the limit.
        let limited = endpoint.clone().timeout(REQUEST_LIMIT).connect().await.map_err(|e| Stop::Silent(e.to_string()))?;
        let unlimited = endpoint.connect().await.map_err(|e| Stop::Silent(e.to_string()))?;
        Ok(Self {
            kv: KvClient::new(limited.clone()).max_decoding_message_size(MAX_MESSAGE),
            lease: LeaseClient::new(limited.clone()),
            watch: WatchClient::new(unlimited).max_decoding_message_size(MAX_MESSAGE),
            maintenance: MaintenanceClient::new(limited),
        })
    }
}
