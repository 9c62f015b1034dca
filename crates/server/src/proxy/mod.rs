//! `keelson gateway start`: passes TCP connections on to the members of a cluster. It stands where clients are, on one
//! address that never changes, and knows nothing of what is said: certificates are those of the members.

mod backends;
mod flags;
mod targets;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::backends::Backends;
use self::flags::{Asked, Settings};
use self::targets::Target;
use crate::{exit, files, logging, lookup, notify};

/// How long a member may take to accept a connection.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may be quiet before the other side is asked for a sign of life, as Go does.
const QUIET: Duration = Duration::from_secs(15);
/// Files that are not connections.
const OTHER_FILES: usize = 64;
/// A connection cannot be taken now, for want of memory or the like: how long until the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the sub-command; `arguments` are those after its name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Result<Vec<String>, OsString> = arguments.map(OsString::into_string).collect();
    let arguments = arguments.map_err(|argument| format!("argument {argument:?} is not valid UTF-8"));
    let settings = match arguments.and_then(|arguments| flags::parse(arguments.into_iter())) {
        Ok(Asked::Start(settings)) => settings,
        Ok(Asked::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("{e} (keelson gateway start --help lists all flags)");
            return ExitCode::from(exit::USAGE);
        }
    };
    let _lines = match logging::install(&["stderr".to_owned()], None, "info", true) {
        Ok(guard) => guard,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    match tokio::runtime::Runtime::new().context("no runtime").and_then(|runtime| runtime.block_on(serve(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!(error = format!("{e:#}"), "the gateway cannot start");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let targets = targets::find(&settings).await?;
    refuse_itself(&settings.listen, &targets).await?;
    let (host, port) = (settings.listen.host.as_str(), settings.listen.port);
    let listener = TcpListener::bind((host, port)).await.with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr()?.to_string();
    let endpoints: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let backends = Arc::new(Backends::new(targets));
    tracing::info!(address, ?endpoints, "ready to proxy client requests");
    tokio::spawn(bring_back(backends.clone(), settings.retry));
    notify::ready();
    // Each connection is two. Others wait until there is room.
    let room = Arc::new(Semaphore::new((files::raise_limit().saturating_sub(OTHER_FILES) / 2).max(1)));
    loop {
        let room = room.clone().acquire_owned().await?;
        match listener.accept().await {
            Ok((client, _)) => {
                let (backends, retry) = (backends.clone(), settings.retry);
                tokio::spawn(async move {
                    pass_on(&backends, client, retry).await;
                    drop(room);
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A gateway that passes connections on to itself would do so until all files are used up.
async fn refuse_itself(listen: &Target, targets: &[Target]) -> anyhow::Result<()> {
    let addresses = async |target: &Target, what: &str| -> anyhow::Result<BTreeSet<IpAddr>> {
        let found = lookup::addresses(&target.host, target.port).await;
        let found = found.with_context(|| format!("failed to resolve {what} host: {}", target.host))?;
        Ok(found.into_iter().map(|address| address.ip()).collect())
    };
    let own = addresses(listen, "listen").await?;
    for target in targets {
        let theirs = addresses(target, "endpoint").await?;
        if target.port == listen.port && !own.is_disjoint(&theirs) {
            bail!("SRV or endpoint ({target}) should not resolve to the gateway listen addr ({listen})");
        }
    }
    Ok(())
}

async fn dial(target: &Target) -> Result<TcpStream, String> {
    let addresses = lookup::addresses(&target.host, target.port);
    let connect = async { TcpStream::connect(&addresses.await?[..]).await };
    match tokio::time::timeout(DIAL_LIMIT, connect).await {
        Ok(connected) => connected.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no connection within {DIAL_LIMIT:?}")),
    }
}

/// Passes a connection on to the first member that takes it, until both sides have ended.
async fn pass_on(backends: &Backends, mut client: TcpStream, retry: Duration) {
    while let Some(backend) = backends.pick() {
        match dial(&backend.target).await {
            Ok(mut server) => {
                wish(&client);
                wish(&server);
                // That one of them is gone is how connections end.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                return;
            }
            Err(e) => {
                backend.set_active(false);
                tracing::warn!(address = %backend.target, interval = ?retry, error = e, "deactivated endpoint");
            }
        }
    }
}

/// What is wanted of a connection and not worth losing it for: small requests are sent at once, and that the other side is
/// gone shows even if nobody says anything.
fn wish(connection: &TcpStream) {
    let _ = connection.set_nodelay(true);
    let _ = SockRef::from(connection).set_tcp_keepalive(&TcpKeepalive::new().with_time(QUIET).with_interval(QUIET));
}

/// Looks again and again whether members that could not be reached can.
async fn bring_back(backends: Arc<Backends>, retry: Duration) {
    loop {
        tokio::time::sleep(retry).await;
        let again = backends.inactive().map(|backend| async move {
            let address = backend.target.to_string();
            match dial(&backend.target).await {
                Ok(_) => {
                    backend.set_active(true);
                    tracing::info!(address, "activated");
                }
                Err(e) => {
                    tracing::warn!(
                        address,
                        interval = ?retry,
                        error = e,
                        "failed to activate endpoint (stay inactive for another interval)"
                    );
                }
            }
        });
        futures::future::join_all(again).await;
    }
}
