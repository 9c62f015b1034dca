//! Free loopback ports for one server. The listeners are held until the server is about to bind,
//! so that servers started side by side do not pick the same ports.
//!
//! The ports lie below those that the kernel hands to outgoing connections: a server that is stopped and
//! started again finds its ports free, however many connections other tests open in between.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// Below are ports of well-known services.
const LOWEST: u16 = 10_000;
/// Linux's own, when the machine does not say where outgoing connections begin.
const EPHEMERAL: u16 = 32_768;

/// How many ports this process has tried; none is tried twice before all were.
static TRIED: AtomicU32 = AtomicU32::new(0);

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
        Ok(Self { client: reserve()?, peer: reserve()? })
    }

    pub fn ports(&self) -> Result<Ports> {
        Ok(Ports { client: self.client.local_addr()?.port(), peer: self.peer.local_addr()?.port() })
    }
}

fn reserve() -> Result<TcpListener> {
    let ports = LOWEST..lowest_outgoing();
    ports
        .clone()
        .find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, next(&ports))).ok())
        .with_context(|| format!("no free loopback port in {ports:?}"))
}

/// Processes begin at different places, so that they seldom ask for the same port.
fn next(ports: &Range<u16>) -> u16 {
    const STRIDE: u32 = 997;
    let count = u32::from(ports.end - ports.start);
    let tried = TRIED.fetch_add(1, Ordering::Relaxed);
    let offset = process::id().wrapping_mul(STRIDE).wrapping_add(tried) % count;
    ports.start + u16::try_from(offset).expect("less than the number of ports")
}

fn lowest_outgoing() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest = range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(EPHEMERAL);
    // A machine that gives everything away leaves nothing better than a guess.
    if lowest > LOWEST { lowest } else { EPHEMERAL }
}
