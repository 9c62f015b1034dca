//! Connections of other members. They are served beside consensus, so that clients, however many, do
//! not hold up heartbeats.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::conn::{self, Surface};
use crate::listen::Listener;
use crate::member::Member;

/// Connections at a time: a few of each member, and of who asks for health and versions.
const CONNECTIONS: usize = 128;

/// Serves what arrives at a peer listener.
pub async fn accept(member: Arc<Member>, beside: Handle, listener: Listener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // It is never closed.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = match &listener {
            Listener::Tcp(l) => l.accept().await.and_then(|(s, _)| s.set_nodelay(true).and_then(|()| s.into_std())).map(Ok),
            Listener::Unix(l) => l.accept().await.and_then(|(s, _)| s.into_std()).map(Err),
        };
        match accepted {
            Ok(stream) => {
                let member = member.clone();
                beside.spawn(async move {
                    match stream {
                        Ok(tcp) => match tokio::net::TcpStream::from_std(tcp) {
                            Ok(tcp) => conn::serve(tcp, member, Surface::Peer, permit).await,
                            Err(e) => tracing::warn!(error = %e, "a member's connection could not be served"),
                        },
                        Err(unix) => match tokio::net::UnixStream::from_std(unix) {
                            Ok(unix) => conn::serve(unix, member, Surface::Peer, permit).await,
                            Err(e) => tracing::warn!(error = %e, "a member's connection could not be served"),
                        },
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "a member's connection could not be accepted");
                // Out of file descriptors, most likely: others must close before this can go on.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
