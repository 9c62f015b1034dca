//! Connections of other members. They are served beside consensus, so that clients, however many, do
//! not hold up heartbeats.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::conn::Surface;
use crate::listen::{Listener, OUT_OF_FILES};
use crate::member::Member;

/// Serves what arrives at a peer listener, while there is room.
pub async fn accept(member: Arc<Member>, beside: Handle, listener: Listener, room: Arc<Semaphore>) {
    loop {
        match listener.accept(Surface::Peer, &room).await {
            Ok(accepted) => drop(beside.spawn(accepted.serve(member.clone()))),
            Err(e) => {
                tracing::warn!(error = %e, "a member's connection could not be accepted");
                // Out of file descriptors, most likely: others must close before this can go on.
                tokio::time::sleep(OUT_OF_FILES).await;
            }
        }
    }
}
