//! Life of the process: open, serve, stop.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use keelson_api::keelson::command::Action;
use keelson_api::keelson::peer::SnapshotFile;
use keelson_api::keelson::{ClusterVersion, FirstMembers, MemberAttributes, OnlyMember};
use keelson_api::{Error, format};
use keelson_consensus::{Around, Checkpoint, Lessor, MakeCheckpoint, Node, NodeOptions, check_reach, check_state, fit_log};
use keelson_mvcc::Table;
use keelson_mvcc::watch::Hub;
use keelson_state::{Machine, Position};
use keelson_storage::{DataDir, LogStore, LogWrite, StateBackend, StateOptions};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::bootstrap::{self, Beginning};
use crate::config::Config;
use crate::conn::Surface;
use crate::disk::Disk;
use crate::files::{self, Files};
use crate::listen::{self, Workers};
use crate::member::{End, Member, Publisher, Removal, State};
use crate::metrics::Metrics;
use crate::peer::{self, Book, Dialer, PeerTransport, Speaker};
use crate::services::SNAPSHOTS_AT_ONCE;
use crate::tls::Tls;
use crate::traces::{Exporter, Tracer};
use crate::users::Tokens;
use crate::{auto_compaction, background, corruption, discovery, exit, handover, logging, membership, notify, overdue, version};

/// How often a member that joins looks whether it is known.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs a member until it is told to stop or cannot go on.
pub fn run(config: Config) -> ExitCode {
    let _lines = match logging::install(&config.log_outputs, config.log_rotation.as_ref(), &config.log_level, config.log_json) {
        Ok(guard) => guard,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(exit::USAGE);
        }
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match serve(config) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(End::Anew)) => start_anew(),
        Ok(Some(end)) => exit::told(end),
        Err(e) => {
            tracing::error!(error = format!("{e:#}"), "keelson cannot go on");
            exit::failed(&e)
        }
    }
}

/// Becomes a new run of the same program: nothing of the old state stays open.
fn start_anew() -> ExitCode {
    tracing::info!("starting anew with the state that has arrived");
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).exec();
    tracing::error!(error = %error, "keelson cannot start itself anew; start it again");
    ExitCode::FAILURE
}

fn serve(mut config: Config) -> anyhow::Result<Option<End>> {
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
    let tls = Tls::open(&config).map_err(anyhow::Error::msg)?;
    let tokens = Arc::new(Tokens::open(&config).map_err(anyhow::Error::msg)?);
    // Ports first: a port in use must not cost a start of the store.
    let listeners = runtime.block_on(async { bind_all(&config, &tls) })?;
    let data_dir = Arc::new(DataDir::open(&config.data_dir)?);
    if let Some(folder) = &config.wal_dir {
        data_dir.place_log(folder)?;
    }
    let election = Duration::from_millis(config.election_ms);
    let dialer = Dialer { limit: election + Duration::from_secs(1), ping: election, tls: tls.calls };
    if data_dir.identity()?.is_none()
        && let Some(found) = runtime.block_on(discovery::find(&config))?
    {
        config.initial_cluster = found;
    }
    let beginning = runtime.block_on(bootstrap::begin(&config, &data_dir, &dialer))?;
    let (traces, exporter) = config.traces.as_ref().map(|traces| Tracer::start(traces, runtime.handle())).unzip();
    let member = Arc::new(Member { traces, ..open(config, &data_dir, &beginning, dialer, files, tokens, &runtime)? });

    let workers = Arc::new(Mutex::new(Workers::start(threads, &member)?));
    let (peers, others): (Listeners, Listeners) = listeners.into_iter().partition(|(_, surface)| *surface == Surface::Peer);
    let beside = member.node.handle().ok_or_else(|| anyhow::anyhow!("consensus has stopped"))?;
    member.peers.dial_beside(beside.clone());
    let room = Arc::new(Semaphore::new(files.members));
    for (listener, _) in peers {
        runtime.spawn(peer::accept(member.clone(), beside.clone(), listener, room.clone()));
    }
    beside.spawn(peer::probe(member.clone()));
    runtime.spawn(membership::follow_list(member.clone()));
    runtime.spawn(background::raise_format_of_data(member.clone(), data_dir.clone()));
    runtime.spawn(handover::when_disk_stalls(member.clone()));
    runtime.spawn(background::count_leaders(member.clone()));
    runtime.spawn(background::end_streams_without_leader(member.clone()));
    let end = runtime.block_on(async {
        tokio::select! {
            end = until_stopped(&member) => Some(end),
            published = publish(&member, &beginning.first_members) => published.err().map(Ended::Failed),
        }
    });
    let end = match end {
        Some(end) => end,
        None => {
            let (clients, probes) = (Arc::new(Semaphore::new(files.clients)), Arc::new(Semaphore::new(files::PROBES)));
            for (listener, surface) in others {
                let room = if surface == Surface::Metrics { &probes } else { &clients };
                runtime.spawn(Workers::accept(workers.clone(), listener, surface, room.clone()));
            }
            runtime.spawn(background::expire_leases(member.clone()));
            runtime.spawn(background::removal(member.clone()));
            runtime.spawn(auto_compaction::run(member.clone()));
            runtime.spawn(corruption::now_and_then(member.clone()));
            runtime.spawn(corruption::of_compactions(member.clone()));
            tracing::info!(
                member_id = format!("{:x}", member.member_id),
                cluster_id = format!("{:x}", member.cluster_id),
                revision = member.state.store.revision(),
                "ready to serve client requests"
            );
            notify::ready();
            runtime.block_on(until_stopped(&member))
        }
    };
    runtime.block_on(handover::away(&member));
    stop(runtime, &workers, member, exporter);
    drop(data_dir);
    match end {
        Ended::Asked => Ok(None),
        Ended::By(end) => Ok(Some(end)),
        Ended::Failed(failure) => Err(failure),
    }
}

type Listeners = Vec<(listen::Listener, Surface)>;

fn bind_all(config: &Config, tls: &Tls) -> anyhow::Result<Listeners> {
    let of_clients = if config.listen_client_http.is_empty() { Surface::Client } else { Surface::Calls };
    let ports = [
        (&config.listen_client, &tls.clients, of_clients),
        (&config.listen_client_http, &tls.clients, Surface::Http),
        (&config.listen_peer, &tls.peers, Surface::Peer),
        (&config.listen_metrics, &tls.clients, Surface::Metrics),
    ];
    let mut listeners = Vec::new();
    for (urls, tls, surface) in ports {
        let bound = listen::bind_all(urls, tls.as_ref(), config).map_err(anyhow::Error::msg)?;
        listeners.extend(bound.into_iter().map(|listener| (listener, surface)));
    }
    Ok(listeners)
}

fn open(
    config: Config,
    data_dir: &DataDir,
    beginning: &Beginning,
    dialer: Dialer,
    files: Files,
    tokens: Arc<Tokens>,
    runtime: &Runtime,
) -> anyhow::Result<Member> {
    let identity = beginning.identity.clone();
    let metrics = Metrics::new(identity.member_id, config.extensive_metrics, config.gates);
    let log = {
        let metrics = metrics.clone();
        let observer = move |written: LogWrite| {
            metrics.wal_write.observe(written.write.as_secs_f64());
            if let Some(sync) = written.sync {
                metrics.wal_fsync.observe(sync.as_secs_f64());
            }
            metrics.wal_bytes.add(i64::try_from(written.bytes).unwrap_or(0));
        };
        LogStore::open(&data_dir.log(), config.sync_log, Arc::new(observer))?
    };
    let log_waits = log.waits();
    take_arrived(data_dir, &log)?;
    let options = StateOptions { max_open_tables: files.tables, ..StateOptions::default() };
    let backend = StateBackend::open(&data_dir.state(), &options)?;
    let (machine, position) = Machine::open(backend)?;
    if config.sync_log {
        check_reach(&log, &position)?;
    }
    check_state(&log, &position, &data_dir.state())?;
    let state = machine.shared().clone();
    let book = Arc::new(Book::new(beginning.addresses.clone()));
    book.follow(state.clone());
    let (cluster_id, member_id) = (identity.cluster_id, identity.member_id);
    let me = Speaker { cluster_id, member_id, data_dir_uuid: identity.uuid.clone(), format: format::newest() };
    let end = Arc::new(tokio::sync::watch::Sender::new(None));
    if config.gates.initial_corrupt_check && position.index > 0 {
        // Over connections of its own: they belong to this thread and end here.
        let asking = PeerTransport::new(me.clone(), book.clone(), dialer.clone(), end.clone(), metrics.clone());
        runtime.block_on(corruption::before_serving(state.clone(), &asking, member_id))?;
    }
    let peers = Arc::new(PeerTransport::new(me, book.clone(), dialer, end.clone(), metrics.clone()));
    let hub = Hub::start(state.store.clone())?;
    let lessor = Arc::new(Lessor::default());
    for (id, ttl, remaining) in state.lease_ttls() {
        lessor.granted(id, ttl, remaining);
    }
    let removal = Arc::new(Removal::default());
    let members_changed = Arc::new(tokio::sync::watch::Sender::new(()));
    if config.forces_new_cluster {
        leave_others(&log, &state, &position, beginning)?;
    }
    let publisher = Publisher {
        hub: hub.clone(),
        lessor: lessor.clone(),
        tokens: tokens.clone(),
        metrics: metrics.clone(),
        removal: removal.clone(),
        members_changed: members_changed.clone(),
        slow_apply: config.slow_apply,
    };
    let options = NodeOptions {
        member_id: identity.member_id,
        run: rand::random(),
        initial_voters: beginning.first_members.iter().map(|m| m.id).collect(),
        heartbeat_ms: config.heartbeat_ms,
        election_ms: config.election_ms,
        entries_to_keep: config.entries_to_keep,
        // Of a new cluster that consists of this member. One that runs already, and has lost sight of others, expects them.
        expects_others: config.joins_existing || config.initial_cluster.len() != 1,
    };
    let flushed = {
        let state = state.clone();
        move || flushed_position(state.store.backend())
    };
    let checkpoint = checkpoints(state.clone(), data_dir.checkpoints()?, identity.uuid.clone(), metrics.clone());
    let observer = Arc::new(publisher);
    let node = Node::start(&options, log, machine, position, flushed, Around { observer, transport: peers.clone(), checkpoint })?;
    let disk = Disk::of(config.data_dir.clone(), data_dir.log());
    Ok(Member {
        config,
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        data_dir_uuid: identity.uuid,
        node,
        peers,
        book,
        members_changed,
        receiving: tokio::sync::Mutex::default(),
        end,
        state,
        hub,
        lessor,
        tokens,
        metrics,
        traces: None,
        removal,
        stopping: tokio::sync::watch::Sender::new(false),
        leader_lost: tokio::sync::watch::Sender::new(0),
        leader_elected: Mutex::default(),
        log_waits,
        disk,
        kept_hashes: corruption::KeptHashes::default(),
        scans: corruption::Scans::on(runtime.handle().clone()),
        defragmenting: Arc::default(),
        snapshots: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
    })
}

/// Makes this member all that is left of its cluster.
fn leave_others(log: &LogStore, state: &State, position: &Position, beginning: &Beginning) -> anyhow::Result<()> {
    let Some(me) = beginning.first_members.iter().find(|m| m.id == beginning.identity.member_id) else { return Ok(()) };
    if state.is_removed(me.id) {
        bail!(
            "this member has been removed from its cluster and cannot begin one; start another member with --force-new-cluster"
        );
    }
    tracing::warn!(
        member_id = format!("{:x}", me.id),
        "forcing a new cluster: all other members are removed for good; restart without --force-new-cluster before any is added"
    );
    let only = OnlyMember { id: me.id, peer_urls: me.peer_urls.clone() };
    Ok(keelson_consensus::leave_others(log, position, &only)?)
}

fn flushed_position(backend: &StateBackend) -> std::io::Result<Position> {
    let row = backend.get_flushed(Table::Meta, keelson_state::APPLIED).map_err(std::io::Error::other)?;
    row.map_or(Ok(Position::default()), |row| prost::Message::decode(row).map_err(std::io::Error::other))
}

/// Puts a state that has arrived from another member in place.
fn take_arrived(data_dir: &DataDir, log: &LogStore) -> anyhow::Result<()> {
    let Some(arrived) = data_dir.arrived()? else { return Ok(()) };
    if let Some(folder) = arrived.folder() {
        let row = StateBackend::peek(folder, Table::Meta, keelson_state::APPLIED)?
            .context("the state that has arrived has no position")?;
        let position: Position = prost::Message::decode(row)?;
        tracing::info!(index = position.index, term = position.term, "taking the state that has arrived");
        if !fit_log(log, &position)? {
            tracing::info!(index = position.index, "this member has got further by itself meanwhile; the state is not taken");
            return Ok(arrived.discard()?);
        }
    }
    Ok(arrived.put_in_place()?)
}

/// Makes checkpoints of the state in a folder of their own.
fn checkpoints(state: Arc<State>, folder: PathBuf, uuid: String, metrics: Arc<Metrics>) -> MakeCheckpoint {
    Arc::new(move || {
        let begun = Instant::now();
        let name = format!("{uuid}-{:016x}", rand::random::<u64>());
        let path = folder.join(&name);
        state.store.backend().checkpoint(&path).map_err(std::io::Error::other)?;
        let row = StateBackend::peek(&path, Table::Meta, keelson_state::APPLIED).map_err(std::io::Error::other)?;
        let row = row.ok_or_else(|| std::io::Error::other("the checkpoint has no position"))?;
        let position = prost::Message::decode(row).map_err(std::io::Error::other)?;
        let files = keelson_storage::list_files(&path)?;
        let files = files.into_iter().map(|(name, size, crc32c)| SnapshotFile { name, size, crc32c }).collect();
        metrics.upkeep.checkpoint.observe(begun.elapsed().as_secs_f64());
        Ok(Checkpoint { name, path, position, files })
    })
}

/// Tells the cluster this member's name and addresses, once it belongs to it and there is a leader.
async fn publish(member: &Member, first_members: &[MemberAttributes]) -> anyhow::Result<()> {
    let attributes = MemberAttributes {
        id: member.member_id,
        name: member.config.name.clone(),
        client_urls: member.config.advertise_client.clone(),
        data_dir_uuid: member.data_dir_uuid.clone(),
        format: format::newest(),
        ..MemberAttributes::default()
    };
    loop {
        if member.state.members().is_empty() && !first_members.is_empty() {
            let first = FirstMembers { members: first_members.to_vec() };
            retried(member.propose(Action::FirstMembers(first)).await)?;
        } else if member.state.members().iter().any(|m| m.id == member.member_id) {
            if retried(member.propose(Action::MemberAttributes(attributes.clone())).await)?.is_some() {
                break;
            }
        } else {
            // The log that tells this member of itself has not come yet.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    // The first one counts; the leader raises it.
    while member.state.cluster_version().is_empty() {
        let version = ClusterVersion { version: version::CLUSTER.to_owned(), format: format::OLDEST };
        retried(member.propose(Action::ClusterVersion(version)).await)?;
    }
    Ok(())
}

/// What a proposal answered, nothing if it may be tried again.
fn retried<T>(result: Result<T, Error>) -> anyhow::Result<Option<T>> {
    match result {
        Ok(reply) => Ok(Some(reply)),
        Err(e) if overdue::may_be_tried_again(e) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Why a run ended.
enum Ended {
    Asked,
    By(End),
    Failed(anyhow::Error),
}

/// Waits for a signal, for consensus to fail, or for the member to be told to end.
async fn until_stopped(member: &Member) -> Ended {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return Ended::Failed(anyhow::anyhow!("signals cannot be received"));
    };
    let mut told = member.end.subscribe();
    tokio::select! {
        _ = terminate.recv() => { tracing::info!(signal = "terminated", "received signal; shutting down"); Ended::Asked }
        _ = interrupt.recv() => { tracing::info!(signal = "interrupt", "received signal; shutting down"); Ended::Asked }
        failure = member.node.failure() => Ended::Failed(anyhow::anyhow!(failure)),
        Ok(end) = told.wait_for(Option::is_some) => end.clone().map_or(Ended::Asked, Ended::By),
    }
}

/// How long threads that still use the store may take to notice that it is closed.
const LETTING_GO: Duration = Duration::from_secs(5);

fn stop(runtime: Runtime, workers: &Mutex<Workers>, member: Arc<Member>, exporter: Option<Exporter>) {
    member.stopping.send_replace(true);
    Workers::join(workers);
    if let Some(exporter) = exporter {
        runtime.block_on(exporter.finish());
    }
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
    let deadline = Instant::now() + LETTING_GO;
    while Arc::strong_count(&state) > 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(state);
    tracing::info!("keelson has stopped");
}
