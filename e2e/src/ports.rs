//! Free loopback ports for one server. The listeners are held until the server is about to bind,
//! so that servers started side by side do not pick the same ports.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// The ports of one server; kept over restarts so that its clients find it again.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub client: u16,
    pub peer: u16,
}

/// Keeps the ports taken until dropped.
pub struct Reservation {
    client: TcpListener,
    peer: TcpListener,
}

impl Reservation {
    pub fn new() -> Result<Self> {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port");
        Ok(Self { client: bind()?, peer: bind()? })
    }

    pub fn ports(&self) -> Result<Ports> {
        Ok(Ports { client: self.client.local_addr()?.port(), peer: self.peer.local_addr()?.port() })
    }
}
