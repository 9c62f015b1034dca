//! The connection to one member, made when it is needed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_consensus::PeerError;
use parking_lot::Mutex;

use super::dial::Dialer;
use crate::grpc::Connection;

/// After a dial has failed, calls fail at once for so long.
const REST: Duration = Duration::from_millis(20);

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
    pub async fn connection(&self, urls: &[String], dialer: &Dialer) -> Result<Arc<Connection>, PeerError> {
        if let Some(known) = self.known() {
            return known;
        }
        let _one_at_a_time = self.dialling.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        let dialled = dialer.any(urls).await;
        let now = Instant::now();
        let mut last = self.last.lock();
        if let Err(why) = &dialled
            && !matches!(&*last, Some(Dialled::Failed(before, _)) if before == why)
        {
            tracing::warn!(error = why, "a member cannot be reached");
        }
        *last = Some(match &dialled {
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
