//! Looks names up on threads of its own, a bounded number of them. The system may take many seconds over a name, longer than
//! whoever asked waits, and the few blocking threads of consensus are for its log.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use tokio::sync::{Semaphore, oneshot};

/// As many names at a time. Who has given up waiting leaves its lookup behind until the system answers.
static ROOM: Semaphore = Semaphore::const_new(64);

/// Addresses of a host, which may be an address itself.
pub async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let room = ROOM.acquire().await.map_err(io::Error::other)?;
    let (answer, answered) = oneshot::channel();
    let host = host.to_owned();
    std::thread::Builder::new().name("lookup".into()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = answer.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
        drop(room);
    })?;
    answered.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_addresses_lead_to_addresses() {
        for host in ["localhost", "127.0.0.1"] {
            let found = addresses(host, 1).await.unwrap();
            assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 1) && !found.is_empty(), "{host}: {found:?}");
        }
        assert!(addresses("no.such.name.invalid", 1).await.is_err());
    }
}
