//! The connection within the process that the calls of one client connection go over. It is made when it is first needed,
//! and anew when it has ended, which a client that breaks off many calls can bring about.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::grpc::{CallError, Connection};

/// The connection, once there is one.
#[derive(Default)]
pub struct Inside(Mutex<Option<Arc<Connection>>>);

impl Inside {
    /// The connection, or a new one if there is none that calls can go over.
    pub async fn get<F>(&self, open: impl FnOnce() -> F) -> Result<Arc<Connection>, CallError>
    where
        F: Future<Output = Result<Connection, CallError>>,
    {
        let mut known = self.0.lock().await;
        if let Some(connection) = known.as_ref().filter(|connection| !connection.is_over()) {
            return Ok(connection.clone());
        }
        let new = Arc::new(open().await?);
        *known = Some(new.clone());
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_connection_is_kept_until_it_has_ended() {
        let inside = Inside::default();
        let (here, there) = tokio::io::duplex(64 << 10);
        let first = inside.get(|| Connection::over(here, LONG)).await.unwrap();
        let again = inside.get(|| async { Err(CallError::Unsent("there is one".into())) }).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        drop(there);
        let ended = async {
            while !first.is_over() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, ended).await.expect("the other side is gone");
        let (here, _there) = tokio::io::duplex(64 << 10);
        let second = inside.get(|| Connection::over(here, LONG)).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second) && !second.is_over());
    }
}
