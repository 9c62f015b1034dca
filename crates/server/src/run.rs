//! Life of the process: open, serve, stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use keelson_api::keelson::command::Action;
use keelson_api::keelson::{ClusterVersion, MemberAttributes};
use keelson_consensus::{Node, NodeOptions};
use keelson_mvcc::Table;
use keelson_mvcc::watch::Hub;
use keelson_state::{Machine, Position};
use keelson_storage::{DataDir, Identity, LogStore, StateBackend, StateOptions};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::conn::Surface;
use crate::disk::Disk;
use crate::files::{self, Files};
use crate::lessor::Lessor;
use crate::listen::{self, Workers};
use crate::member::{Member, Publisher, Removal};
use crate::metrics::Metrics;
use crate::{background, identity, logging, version};

/// Runs a member until it is told to stop or cannot go on.
pub fn run(config: Config) -> ExitCode {
    let _lines = match logging::install(&config.log_outputs, &config.log_level, config.log_json) {
        Ok(guard) => guard,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(2);
        }
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!(error = format!("{e:#}"), "keelson cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    tracing::info!(
        etcd_version = version::API,
        keelson_version = env!("CARGO_PKG_VERSION"),
        name = config.name.as_str(),
        data_dir = config.data_dir.display().to_string(),
        "starting keelson"
    );
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let files = Files::divide(files::raise_limit(), threads).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("main").enable_all().build()?;
    // Ports first: a port in use must not cost a start of the store.
    let listeners = runtime.block_on(async { bind_all(&config) })?;
    let data_dir = DataDir::open(&config.data_dir)?;
    let member = Arc::new(open(config, &data_dir, files)?);
    runtime.block_on(publish(&member))?;

    let workers = Arc::new(Mutex::new(Workers::start(threads, &member)?));
    let (clients, probes) = (Arc::new(Semaphore::new(files.clients)), Arc::new(Semaphore::new(files::PROBES)));
    for (listener, surface) in listeners {
        let room = if surface == Surface::Client { &clients } else { &probes };
        runtime.spawn(Workers::accept(workers.clone(), listener, surface, room.clone()));
    }
    runtime.spawn(background::expire_leases(member.clone()));
    runtime.spawn(background::removal(member.clone()));
    runtime.spawn(background::auto_compaction(member.clone()));
    tracing::info!(
        member_id = format!("{:x}", member.member_id),
        cluster_id = format!("{:x}", member.cluster_id),
        revision = member.state.store.revision(),
        "ready to serve client requests"
    );
    let failure = runtime.block_on(until_stopped(&member));
    stop(runtime, &workers, member);
    drop(data_dir);
    match failure {
        Some(failure) => Err(anyhow::anyhow!(failure)),
        None => Ok(()),
    }
}

type Listeners = Vec<(listen::Listener, Surface)>;

fn bind_all(config: &Config) -> anyhow::Result<Listeners> {
    let client = config.listen_client.iter().map(|url| (url, Surface::Client));
    // The peer port has nothing to say to other members yet, but tools ask it for its health.
    let peer = config.listen_peer.iter().map(|url| (url, Surface::Metrics));
    let metrics = config.listen_metrics.iter().map(|url| (url, Surface::Metrics));
    client
        .chain(peer)
        .chain(metrics)
        .map(|(url, surface)| Ok((listen::bind(url, config).map_err(anyhow::Error::msg)?, surface)))
        .collect()
}

fn open(config: Config, data_dir: &DataDir, files: Files) -> anyhow::Result<Member> {
    let member_id = identity::member_id(&config.advertise_peer, &config.cluster_token);
    let identity = match data_dir.identity()? {
        Some(identity) => identity,
        None if config.joins_existing => anyhow::bail!(
            "--initial-cluster-state=existing on an empty data directory: joining a cluster is not supported by this version"
        ),
        None => {
            let new = Identity::new(random_uuid(), identity::cluster_id(&[member_id]), member_id);
            data_dir.claim(&new)?;
            new
        }
    };
    let metrics = Metrics::new(identity.member_id, config.extensive_metrics);
    let log = {
        let metrics = metrics.clone();
        let observer = move |took: Duration, bytes: usize| {
            metrics.wal_fsync.observe(took.as_secs_f64());
            metrics.wal_bytes.inc_by(bytes as u64);
        };
        LogStore::open(&data_dir.log(), config.sync_log, Arc::new(observer))?
    };
    let options = StateOptions { max_open_tables: files.tables, ..StateOptions::default() };
    let backend = StateBackend::open(&data_dir.state(), &options)?;
    let (machine, position) = Machine::open(backend)?;
    let state = machine.shared().clone();
    let hub = Hub::start(state.store.clone())?;
    let lessor = Arc::new(Lessor::default());
    for (id, ttl, remaining) in state.lease_ttls() {
        lessor.granted(id, ttl, remaining);
    }
    let removal = Arc::new(Removal::default());
    let publisher = Publisher {
        hub: hub.clone(),
        lessor: lessor.clone(),
        metrics: metrics.clone(),
        removal: removal.clone(),
        slow_apply: config.slow_apply,
    };
    let options = NodeOptions {
        member_id: identity.member_id,
        initial_voters: vec![identity.member_id],
        heartbeat_ms: config.heartbeat_ms,
        election_ms: config.election_ms,
        entries_to_keep: config.entries_to_keep,
    };
    let flushed = {
        let state = state.clone();
        move || flushed_position(state.store.backend())
    };
    let node = Node::start(&options, log, machine, position, flushed, Arc::new(publisher))?;
    let disk = Disk::of(config.data_dir.clone());
    Ok(Member {
        config,
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        node,
        state,
        hub,
        lessor,
        metrics,
        removal,
        stopping: tokio::sync::watch::Sender::new(false),
        disk,
        defragmenting: Arc::default(),
    })
}

fn flushed_position(backend: &StateBackend) -> std::io::Result<Position> {
    let row = backend.get_flushed(Table::Meta, keelson_state::APPLIED).map_err(std::io::Error::other)?;
    row.map_or(Ok(Position::default()), |row| prost::Message::decode(row).map_err(std::io::Error::other))
}

fn random_uuid() -> String {
    let bits: u128 = rand::random();
    format!("{bits:032x}")
}

/// Tells the cluster, which so far is this member, its name and addresses.
async fn publish(member: &Member) -> anyhow::Result<()> {
    let attributes = MemberAttributes {
        id: member.member_id,
        name: member.config.name.clone(),
        client_urls: member.config.advertise_client.clone(),
        peer_urls: member.config.advertise_peer.clone(),
        data_dir_uuid: String::new(),
        is_learner: false,
    };
    // A lone member is leader as soon as its first vote is on disk.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match member.propose(Action::MemberAttributes(attributes.clone())).await {
            Ok(_) => break,
            Err(e) if tokio::time::Instant::now() > deadline => anyhow::bail!("no leader was elected: {e}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    if member.state.cluster_version() != version::CLUSTER {
        member.propose(Action::ClusterVersion(ClusterVersion { version: version::CLUSTER.to_owned() })).await?;
    }
    member.metrics.leader_changes.inc();
    Ok(())
}

/// Waits for a signal (`None`) or for consensus to fail.
async fn until_stopped(member: &Member) -> Option<String> {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return Some("signals cannot be received".into());
    };
    tokio::select! {
        _ = terminate.recv() => { tracing::info!(signal = "terminated", "received signal; shutting down"); None }
        _ = interrupt.recv() => { tracing::info!(signal = "interrupt", "received signal; shutting down"); None }
        failure = member.node.failure() => Some(failure),
    }
}

/// How long threads that still use the store may take to notice that it is closed.
const LETTING_GO: Duration = Duration::from_secs(5);

fn stop(runtime: Runtime, workers: &Mutex<Workers>, member: Arc<Member>) {
    member.stopping.send_replace(true);
    Workers::join(workers);
    runtime.shutdown_timeout(Duration::from_secs(2));
    member.node.stop();
    // What was applied becomes files, so that the next start has nothing to replay.
    if let Err(e) = member.state.store.backend().flush() {
        tracing::error!(error = %e, "the state store could not be flushed; the log will be replayed at the next start");
    }
    member.state.store.backend().close();
    // RocksDB must not be closed while the process tears itself down: whoever has the state lets go of it first.
    let state = member.state.clone();
    drop(member);
    let deadline = std::time::Instant::now() + LETTING_GO;
    while Arc::strong_count(&state) > 1 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(state);
    tracing::info!("keelson has stopped");
}
