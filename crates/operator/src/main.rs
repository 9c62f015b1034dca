//! `keelson-operator`: runs clusters of keelson members on Kubernetes.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use keelson_operator::api::Defaults;
use keelson_operator::controller::{self, Context};
use keelson_operator::lease::Election;
use keelson_operator::metrics::Metrics;
use keelson_operator::serve;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// It gives memory back that was needed once, when all clusters were looked at at the same time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How soon the API server is asked again at the start, and how long at most an answer or the next attempt is waited for.
const REACH_AGAIN: Duration = Duration::from_secs(1);
const REACH_LIMIT: Duration = Duration::from_secs(10);

/// Longest silence of the API server in the middle of an answer. It ends each watch by itself before that.
const READ_LIMIT: Duration = Duration::from_secs(controller::WATCH as u64 + 10);

#[derive(Parser)]
#[command(name = "keelson-operator", version, about = "Runs clusters of keelson members on Kubernetes")]
struct Flags {
    /// The only namespace to look after; all of them without it.
    #[arg(long, env = "WATCH_NAMESPACE")]
    watch_namespace: Option<String>,
    /// The image of members whose EtcdCluster names none, without tag.
    #[arg(long, env = "DEFAULT_IMAGE_REPOSITORY", default_value = "ghcr.io/keelson/keelson")]
    default_image_repository: String,
    /// The version of members whose EtcdCluster names none.
    #[arg(long, env = "DEFAULT_VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    default_version: String,
    /// Where /healthz, /readyz and /metrics are answered.
    #[arg(long, env = "LISTEN", default_value = "[::]:8080")]
    listen: SocketAddr,
    /// Elects one of several replicas to act. Switch it off only where there can be no second one.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    leader_election: bool,
    #[arg(long, env = "LEASE_NAME", default_value = "keelson-operator")]
    lease_name: String,
    /// The namespace of the Lease: the operator's own.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Who this replica is in the election, unlike any other; without it, the host's name and a random number.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// Such as `info` or `keelson_operator=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let logs = tracing_subscriber::fmt().with_env_filter(&flags.log_level).with_writer(std::io::stderr);
    match flags.log_format {
        LogFormat::Json => logs.json().init(),
        LogFormat::Text => logs.init(),
    }
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<()> {
    let metrics = Metrics::new().context("setting up metrics")?;
    let ready = Arc::new(AtomicBool::new(false));
    let server = tokio::spawn(serve::serve(flags.listen, metrics.clone(), ready.clone()));
    let client = client().await.context("finding the API server: run inside a cluster, or set KUBECONFIG")?;
    let identity = flags.identity.clone().filter(|name| !name.is_empty()).unwrap_or_else(unlike_any_other);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        if let Err(error) = asked_to_stop().await {
            tracing::warn!(%error, "signals cannot be heard");
            return;
        }
        tracing::info!("finishing what is under way");
        // Nobody listens any more only when everything has ended.
        let _ = stop.send(true);
    });
    let work = async {
        tokio::select! {
            () = reach(&client) => {}
            () = until(stopped.clone()) => return,
        }
        lead(&flags, &identity, &client, &metrics, &ready, &stopped).await;
    };
    tokio::select! {
        served = server => served.context("the task that answers /healthz")?.with_context(|| format!("listening on {}", flags.listen))?,
        () = work => {}
    }
    Ok(())
}

async fn client() -> Result<Client> {
    let mut config = Config::infer().await?;
    // Counted from when a question was sent, and not from when the connection was used last.
    (config.read_timeout, config.reset_reader_on_write) = (Some(READ_LIMIT), true);
    Ok(Client::try_from(config)?)
}

/// Two replicas of one name would take each other's Lease for their own, and both act.
fn unlike_any_other() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("keelson-operator");
    format!("{host}-{:08x}", rand::random::<u32>())
}

/// Returns when the API server answers. To end instead would help nobody: the next start would find it no sooner.
async fn reach(client: &Client) {
    let mut pause = REACH_AGAIN;
    loop {
        match tokio::time::timeout(REACH_LIMIT, client.apiserver_version()).await {
            Ok(Ok(version)) => {
                tracing::info!(kubernetes = version.git_version, "connected");
                return;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the API server cannot be reached yet; trying again"),
            Err(_) => tracing::warn!("the API server does not answer yet; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(REACH_LIMIT);
    }
}

/// Looks after clusters while this replica leads.
async fn lead(
    flags: &Flags,
    identity: &str,
    client: &Client,
    metrics: &Arc<Metrics>,
    ready: &Arc<AtomicBool>,
    stopped: &watch::Receiver<bool>,
) {
    let work = |away| {
        let defaults = Defaults { repository: flags.default_image_repository.clone(), version: flags.default_version.clone() };
        let context = Context::new(client.clone(), identity.to_string(), defaults, metrics.clone(), away);
        metrics.leading.set(1);
        controller::run(context, flags.watch_namespace.clone(), until(stopped.clone()))
    };
    if !flags.leader_election {
        ready.store(true, Ordering::Relaxed);
        return work(None).await;
    }
    let mut election = Election::new(client.clone(), &flags.lease_namespace, &flags.lease_name, identity, ready.clone());
    tracing::info!(lease = flags.lease_name, identity, "waiting to lead");
    let away = tokio::select! {
        away = election.win() => away,
        () = until(stopped.clone()) => return,
    };
    match &away {
        Some(away) => tracing::warn!(from = %away.from, "leading; nobody did for a while"),
        None => tracing::info!("leading"),
    }
    tokio::select! {
        () = work(away) => {}
        () = election.hold() => {
            // Another replica may act from now on: nothing of what is under way may go on here.
            tracing::error!(lease = flags.lease_name, "the Lease is lost: ending at once");
            std::process::exit(1);
        }
    }
    let kept = "the Lease could not be given up; the next replica waits until it has run out";
    match tokio::time::timeout(REACH_LIMIT, election.release()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "{kept}"),
        Err(_) => tracing::warn!("{kept}: the API server does not answer"),
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever could stop this.
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn asked_to_stop() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_that_were_given_no_name_do_not_take_each_other_for_themselves() {
        assert_ne!(unlike_any_other(), unlike_any_other());
    }
}
