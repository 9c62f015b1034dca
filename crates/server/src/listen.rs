//! Listening, and the threads that serve: each has a runtime of its own and keeps its connections,
//! so that a request is served where its bytes arrived.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::config::{Config, ListenUrl};
use crate::conn::{self, Surface};
use crate::member::Member;

/// A bound listener.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener),
}

/// An accepted connection on its way to a thread.
struct Accepted {
    socket: Accept,
    surface: Surface,
    /// Its share of the connections there may be.
    permit: OwnedSemaphorePermit,
}

enum Accept {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// How often it is told that there is no room for more connections.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// Binds an address. Call it inside a runtime.
pub fn bind(url: &ListenUrl, config: &Config) -> Result<Listener, String> {
    let failed = |what: String, e: io::Error| match e.kind() {
        io::ErrorKind::AddrInUse => {
            format!("cannot listen on {what}: address already in use; stop the process that has it, or choose another")
        }
        _ => format!("cannot listen on {what}: {e}"),
    };
    match url {
        ListenUrl::Tcp(address) => {
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
            open().map(Listener::Tcp).map_err(|e| failed(format!("http://{address}"), e))
        }
        ListenUrl::Unix(path) => {
            // A socket that nobody listens on was left behind by a process that died.
            if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
                let _ = std::fs::remove_file(path);
            }
            UnixListener::bind(path).map(Listener::Unix).map_err(|e| failed(format!("unix://{}", path.display()), e))
        }
    }
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
            let (queue, mut accepted) = mpsc::unbounded_channel();
            let member = member.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(8).enable_all().build()?;
            let serve = move || {
                runtime.block_on(async {
                    let mut stopped = std::pin::pin!(member.stopped());
                    loop {
                        tokio::select! {
                            connection = accepted.recv() => match connection {
                                Some(connection) => spawn(connection, &member),
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

    /// Hands a listener's connections out in turn until the process stops. As in etcd, those for which
    /// there is no room wait in the kernel.
    pub async fn accept(queues: Arc<parking_lot::Mutex<Self>>, listener: Listener, surface: Surface, room: Arc<Semaphore>) {
        let mut told: Option<Instant> = None;
        loop {
            if room.available_permits() == 0 && told.is_none_or(|t| t.elapsed() > FULL_AGAIN) {
                told = Some(Instant::now());
                tracing::warn!("as many connections as the limit of open files allows; new ones have to wait");
            }
            // It is never closed.
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let socket = match &listener {
                Listener::Tcp(l) => l.accept().await.and_then(|(s, _)| s.into_std()).map(Accept::Tcp),
                Listener::Unix(l) => l.accept().await.and_then(|(s, _)| s.into_std()).map(Accept::Unix),
            };
            match socket {
                Ok(socket) => queues.lock().hand_out(Accepted { socket, surface, permit }),
                Err(e) => {
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    // Out of file descriptors, most likely: others must close before this can go on.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
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

fn spawn(Accepted { socket, surface, permit }: Accepted, member: &Arc<Member>) {
    let member = member.clone();
    match socket {
        Accept::Tcp(stream) => {
            // Small answers must not wait for more; and a client that vanished must be noticed.
            let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
            let _ = stream.set_nodelay(true);
            let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
            if let Ok(stream) = TcpStream::from_std(stream) {
                tokio::spawn(conn::serve(stream, member, surface, permit));
            }
        }
        Accept::Unix(stream) => {
            if let Ok(stream) = UnixStream::from_std(stream) {
                tokio::spawn(conn::serve(stream, member, surface, permit));
            }
        }
    }
}
