//! A detour for connections between members: a proxy in the router that takes them under the address of
//! the member that was dialled, and hands on what passes late, or not at once, or breaks off. The kernel here has
//! no way to do that to packets; to a TCP stream a lost packet is a pause, so that is what it gets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rand::Rng;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

const PEER_PORT: u16 = 2380;
/// Pieces of a stream that may be on their way.
const IN_FLIGHT: usize = 256;
const PIECE: usize = 16 << 10;

/// What happens to a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trouble {
    /// Everything takes so long, one way.
    pub delay: Duration,
    /// And up to so much longer.
    pub jitter: Duration,
    /// How likely a piece is lost and has to be sent again, which takes `RESENT` longer.
    pub loss: f64,
    /// How likely a piece ends its connection.
    pub reset: f64,
}

/// TCP waits at least so long before it sends again.
const RESENT: Duration = Duration::from_millis(200);

type Links = BTreeMap<(usize, usize), Trouble>;

/// The proxy, until dropped.
pub struct Detour {
    links: Arc<Mutex<Links>>,
    /// Counts the times that everything was healed: connections of before end.
    healed: Option<watch::Sender<u64>>,
    thread: Option<JoinHandle<()>>,
}

impl Detour {
    /// Starts it in the router's namespace. Sockets belong to the namespace of the thread that makes them, so
    /// all is done on one thread, which never leaves it.
    pub(super) fn start(router: &str, subnet: [u8; 3]) -> Result<Self> {
        let namespace = File::open(format!("/run/netns/{router}")).context("the router's namespace")?;
        let links: Arc<Mutex<Links>> = Arc::default();
        let (healed, heals) = watch::channel(0);
        let (started, outcome) = std::sync::mpsc::channel();
        let known = links.clone();
        let thread = std::thread::Builder::new().name("detour".into()).spawn(move || {
            let prepared = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(io::Error::from)
                .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build())
                .and_then(|runtime| Ok((listen()?, runtime)));
            match prepared {
                Ok((listener, runtime)) => {
                    let _ = started.send(Ok(()));
                    if let Err(e) = runtime.block_on(serve(listener, subnet, known, heals)) {
                        eprintln!("the detour between members has ended: {e}");
                    }
                }
                Err(e) => drop(started.send(Err(e))),
            }
        })?;
        outcome.recv().context("the detour's thread has ended")?.context("starting the detour between members")?;
        Ok(Self { links, healed: Some(healed), thread: Some(thread) })
    }

    pub(super) fn set(&self, from: usize, to: usize, trouble: Trouble) {
        self.links.lock().insert((from, to), trouble);
    }

    pub(super) fn clear(&self) {
        self.links.lock().clear();
        if let Some(healed) = &self.healed {
            healed.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        self.healed = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its message.
            let _ = thread.join();
        }
    }
}

fn listen() -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    // To answer under the addresses of others.
    socket.set_ip_transparent_v4(true)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PEER_PORT)).into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Which member has an address.
fn member(address: SocketAddr, subnet: [u8; 3]) -> Option<usize> {
    let SocketAddr::V4(address) = address else { return None };
    let [a, b, c, last] = address.ip().octets();
    ([a, b, c] == subnet).then_some(())?;
    usize::from(last).checked_sub(1)
}

async fn serve(
    listener: std::net::TcpListener,
    subnet: [u8; 3],
    links: Arc<Mutex<Links>>,
    mut heals: watch::Receiver<u64>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        heals.borrow_and_update();
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, from) = accepted?;
                let to = stream.local_addr()?;
                let link = member(from, subnet).zip(member(to, subnet));
                let Some(trouble) = link.and_then(|link| links.lock().get(&link).copied()) else { continue };
                let mut heals = heals.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = heals.changed() => {}
                        _ = pass(stream, to, trouble) => {}
                    }
                });
            }
            changed = heals.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

async fn pass(inner: TcpStream, to: SocketAddr, trouble: Trouble) -> io::Result<()> {
    let SocketAddr::V4(to) = to else { return Ok(()) };
    let outer = TcpStream::connect(SocketAddrV4::new(*to.ip(), PEER_PORT)).await?;
    inner.set_nodelay(true)?;
    outer.set_nodelay(true)?;
    let (inner_read, inner_write) = inner.into_split();
    let (outer_read, outer_write) = outer.into_split();
    // As soon as one direction is broken, both are.
    tokio::select! {
        done = one_way(inner_read, outer_write, trouble) => done,
        done = one_way(outer_read, inner_write, trouble) => done,
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trouble: Trouble) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT);
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE];
            let length = from.read(&mut piece).await?;
            if length == 0 {
                return io::Result::Ok(());
            }
            piece.truncate(length);
            let late = {
                let mut rng = rand::rng();
                if rng.random_bool(trouble.reset) {
                    return Ok(());
                }
                let again = if rng.random_bool(trouble.loss) { RESENT } else { Duration::ZERO };
                trouble.delay + again + trouble.jitter.mul_f64(rng.random())
            };
            if sender.send((Instant::now() + late, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((at, piece)) = pieces.recv().await {
            tokio::time::sleep_until(at).await;
            to.write_all(&piece).await?;
        }
        io::Result::Ok(())
    };
    tokio::try_join!(read, write).map(|((), ())| ())
}
