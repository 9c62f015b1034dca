//! Listening, and the threads that serve: each has a runtime of its own and keeps its connections,
//! so that a request is served where its bytes arrived.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::config::{Address, Config, ListenUrl};
use crate::conn::{self, Secure, Surface};
use crate::grpc::Ends;
use crate::member::Member;
use crate::tls;

/// A bound listener.
pub struct Listener {
    socket: Bound,
    door: Door,
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How connections of a listener come in.
#[derive(Clone)]
pub struct Door {
    takes_plain: bool,
    tls: Option<Arc<tls::Server>>,
}

/// An accepted connection on its way to the runtime that serves it.
pub struct Accepted {
    socket: Accept,
    door: Door,
    surface: Surface,
    /// Its share of the connections there may be.
    permit: OwnedSemaphorePermit,
}

enum Accept {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// How long to wait before the next connection is accepted, after one could not be.
pub const OUT_OF_FILES: Duration = Duration::from_millis(50);
/// How often it is told that there is no room for more connections.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// How long a client of a port that is both http and https may take to show which it speaks.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// What a TLS handshake begins with.
const HANDSHAKE: u8 = 0x16;

/// Binds the addresses of one kind of port; http and https may share one. Call it inside a runtime.
pub fn bind_all(urls: &[ListenUrl], tls: Option<&Arc<tls::Server>>, config: &Config) -> Result<Vec<Listener>, String> {
    let mut listeners: Vec<(&Address, Listener)> = Vec::new();
    for url in urls {
        let same = listeners.iter_mut().find(|(address, _)| matches!(address, Address::Tcp(_)) && **address == url.address);
        let door = match same {
            Some((_, listener)) => &mut listener.door,
            None => {
                let socket = bind(url, config)?;
                listeners.push((&url.address, Listener { socket, door: Door { takes_plain: false, tls: None } }));
                let Some((_, listener)) = listeners.last_mut() else { continue };
                &mut listener.door
            }
        };
        if url.is_secure {
            door.tls = tls.cloned();
        } else {
            door.takes_plain = true;
        }
    }
    Ok(listeners.into_iter().map(|(_, listener)| listener).collect())
}

fn bind(url: &ListenUrl, config: &Config) -> Result<Bound, String> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::AddrInUse => {
            format!("cannot listen on {url}: address already in use; stop the process that has it, or choose another")
        }
        _ => format!("cannot listen on {url}: {e}"),
    };
    match &url.address {
        Address::Tcp(address) => {
            let open = || {
                let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
                // As Go does it: a restarted server may take its port back at once.
                socket.set_reuse_address(true)?;
                if config.reuse_port {
                    socket.set_reuse_port(true)?;
                }
                socket.bind(&(*address).into())?;
                socket.listen(4096)?;
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket.into())
            };
            open().map(Bound::Tcp).map_err(failed)
        }
        Address::Unix(path) => {
            // A socket that nobody listens on was left behind by a process that died.
            if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
                let _ = std::fs::remove_file(path);
            }
            UnixListener::bind(path).map(Bound::Unix).map_err(failed)
        }
    }
}

impl Listener {
    /// The next connection, once there is room for it. As in etcd, those for which there is none wait in the kernel.
    pub async fn accept(&self, surface: Surface, room: &Arc<Semaphore>) -> io::Result<Accepted> {
        let permit = match room.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if let Some(tls) = &self.door.tls {
                    tls.pending.end_oldest();
                }
                room.clone().acquire_owned().await.map_err(io::Error::other)?
            }
        };
        let socket = match &self.socket {
            Bound::Tcp(l) => l.accept().await.and_then(|(s, from)| Ok(Accept::Tcp(s.into_std()?, from)))?,
            Bound::Unix(l) => l.accept().await.and_then(|(s, _)| Ok(Accept::Unix(s.into_std()?)))?,
        };
        Ok(Accepted { socket, door: self.door.clone(), surface, permit })
    }
}

impl Accepted {
    /// Serves the connection to its end, on the runtime that this is called in.
    pub async fn serve(self, member: Arc<Member>) {
        let Self { socket, door, surface, permit } = self;
        match socket {
            Accept::Tcp(stream, from) => {
                // Small answers must not wait for more; and a client that vanished must be noticed.
                let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                let Ok(stream) = TcpStream::from_std(stream) else { return };
                let ends = Ends { client: Some(from), server: stream.local_addr().ok() };
                match door.tls {
                    Some(tls) if !door.takes_plain || begins_handshake(&stream).await => {
                        Box::pin(serve_secure(tls, stream, ends, member, surface, permit)).await;
                    }
                    _ => conn::serve(stream, ends, member, surface, None, permit).await,
                }
            }
            Accept::Unix(stream) => {
                let Ok(stream) = UnixStream::from_std(stream) else { return };
                match door.tls {
                    Some(tls) => Box::pin(serve_secure(tls, stream, Ends::default(), member, surface, permit)).await,
                    None => conn::serve(stream, Ends::default(), member, surface, None, permit).await,
                }
            }
        }
    }
}

async fn serve_secure(
    tls: Arc<tls::Server>,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ends: Ends,
    member: Arc<Member>,
    surface: Surface,
    permit: OwnedSemaphorePermit,
) {
    if let Some(io) = tls.accept(io, ends.client.map(|client| client.ip())).await {
        let certificate_name = tls.user_of(&io);
        conn::serve(io, ends, member, surface, Some(Secure { certificate_name }), permit).await;
    }
}

/// Whether the client of a port that is both http and https speaks the latter.
async fn begins_handshake(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(tokio::time::timeout(FIRST_BYTE, stream.peek(&mut first)).await, Ok(Ok(1)) if first[0] == HANDSHAKE)
}

/// The threads that serve connections.
pub struct Workers {
    queues: Vec<mpsc::UnboundedSender<Accepted>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

impl Workers {
    /// Starts `count` threads.
    pub fn start(count: usize, member: &Arc<Member>) -> io::Result<Self> {
        let mut queues = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count {
            let (queue, mut accepted) = mpsc::unbounded_channel::<Accepted>();
            let member = member.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(8).enable_all().build()?;
            let serve = move || {
                runtime.block_on(async {
                    let mut stopped = std::pin::pin!(member.stopped());
                    loop {
                        tokio::select! {
                            connection = accepted.recv() => match connection {
                                Some(connection) => drop(tokio::spawn(connection.serve(member.clone()))),
                                None => break,
                            },
                            () = &mut stopped => break,
                        }
                    }
                    conn::drain(&member).await;
                });
                runtime.shutdown_timeout(std::time::Duration::from_millis(200));
            };
            threads.push(std::thread::Builder::new().name(format!("serve-{number}")).spawn(serve)?);
            queues.push(queue);
        }
        Ok(Self { queues, threads, next: 0 })
    }

    /// Hands a listener's connections out in turn until the process stops.
    pub async fn accept(queues: Arc<parking_lot::Mutex<Self>>, listener: Listener, surface: Surface, room: Arc<Semaphore>) {
        let mut told: Option<Instant> = None;
        loop {
            if room.available_permits() == 0 && told.is_none_or(|t| t.elapsed() > FULL_AGAIN) {
                told = Some(Instant::now());
                tracing::warn!("as many connections as the limit of open files allows; new ones have to wait");
            }
            match listener.accept(surface, &room).await {
                Ok(accepted) => queues.lock().hand_out(accepted),
                Err(e) => {
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    // Out of file descriptors, most likely: others must close before this can go on.
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
            }
        }
    }

    fn hand_out(&mut self, connection: Accepted) {
        self.next = (self.next + 1) % self.queues.len();
        // A worker only ends when the process stops.
        let _ = self.queues[self.next].send(connection);
    }

    /// Waits for the threads to end.
    pub fn join(workers: &parking_lot::Mutex<Self>) {
        let threads = std::mem::take(&mut workers.lock().threads);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a serving thread has panicked");
            }
        }
    }
}
