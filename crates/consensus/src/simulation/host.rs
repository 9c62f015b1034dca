//! One member: its disk, what of its state is on disk, and its process, which comes and goes. Each process has a
//! runtime of its own with a clock that stands still unless the world moves it; a crash drops the runtime with all
//! that was going on in it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use keelson_api::Error;
use keelson_api::keelson::command::Action;
use keelson_api::keelson::{Command, LeaseRevoke, peer};
use keelson_mvcc::watch::Hub;
use keelson_mvcc::{Backend, MemoryBackend, ReadMode, Table};
use keelson_state::{APPLIED, Machine, Position};
use parking_lot::Mutex;
use prost::Message;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::disk::{FAILED, SimDisk};
use super::net::{Call, Delivery, Frozen, Net, Reply, SimTransport, Time};
use super::truth::{Shared, Witness};
use crate::disk::LogDisk;
use crate::fit::fit_log;
use crate::lessor::Lessor;
use crate::node::{Around, Node, NodeOptions};
use crate::snapshot::{Checkpoint, MakeCheckpoint};
use crate::transport::PeerError;

/// Shorter than real ones, with the same proportions: a simulated second has more elections.
const HEARTBEAT: u64 = 30;
const ELECTION: u64 = 300;
/// Few, so that members that were away need the whole state.
const KEPT: u64 = 40;
/// Milliseconds that a whole state is on its way, at most.
const TRANSFER: u64 = 3000;
/// Between looks for leases that have ended, how many are ended at a time, and how long anything about that may take.
const EXPIRY: Duration = Duration::from_millis(100);
const EXPIRY_LIMIT: usize = 3;
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) type State = Arc<keelson_state::Shared<MemoryBackend>>;

/// What all members of a world share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) net: Net,
    pub(super) truth: Shared,
    pub(super) frozen: Arc<Mutex<BTreeMap<String, Frozen>>>,
    /// Disks say that they have synced, and have not.
    pub(super) disks_lie: bool,
}

/// What the process is, while it runs.
struct Process {
    runtime: Runtime,
    /// There once it has started.
    node: Arc<Mutex<Option<Arc<Node>>>>,
    failed: Arc<Mutex<Option<String>>>,
    state: State,
    lessor: Arc<Lessor>,
    hub: Hub<MemoryBackend>,
    backend: MemoryBackend,
    listens: bool,
}

pub(super) struct Host {
    pub(super) id: u64,
    pub(super) runs: u64,
    initial_voters: Vec<u64>,
    around: Surroundings,
    disk: SimDisk,
    flushed: Arc<Mutex<MemoryBackend>>,
    /// A state that has arrived whole and waits for the next start.
    arrived: Arc<Mutex<Option<Frozen>>>,
    process: Option<Process>,
    /// How far its clock has got.
    clock: Time,
    /// The process stands still until then.
    pub(super) asleep_until: Time,
    /// Committed entries up to here have been compared with everybody's.
    compared: u64,
    /// The disk has failed, and consensus with it: the process ends.
    ended: bool,
}

pub(super) fn position_of(backend: &MemoryBackend) -> io::Result<Position> {
    let row = backend.get(Table::Meta, APPLIED, ReadMode::Blocking).map_err(io::Error::other)?;
    row.map_or(Ok(Position::default()), |row| Position::decode(row).map_err(io::Error::other))
}

impl Host {
    pub(super) fn new(id: u64, initial_voters: Vec<u64>, around: Surroundings) -> Self {
        Self {
            id,
            runs: 0,
            initial_voters,
            disk: SimDisk::new(around.disks_lie),
            around,
            flushed: Arc::default(),
            arrived: Arc::default(),
            process: None,
            clock: 0,
            asleep_until: 0,
            compared: 0,
            ended: false,
        }
    }

    pub(super) fn runs_now(&self) -> bool {
        self.process.is_some()
    }

    /// The node, once it serves.
    pub(super) fn node(&self) -> Option<Arc<Node>> {
        self.process.as_ref().and_then(|p| p.node.lock().clone())
    }

    pub(super) fn state(&self) -> Option<State> {
        self.process.as_ref().map(|p| p.state.clone())
    }

    pub(super) fn lessor(&self) -> Option<Arc<Lessor>> {
        self.process.as_ref().map(|p| p.lessor.clone())
    }

    pub(super) fn hub(&self) -> Option<Hub<MemoryBackend>> {
        self.process.as_ref().map(|p| p.hub.clone())
    }

    pub(super) fn runtime(&self) -> Option<&Runtime> {
        self.process.as_ref().map(|p| &p.runtime)
    }

    pub(super) fn stall(&self, more: Duration) {
        self.disk.stall(more);
    }

    /// Starts the process on what is on its disks.
    pub(super) fn start(&mut self, now: Time, rng: &mut SmallRng) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| format!("member {} cannot start: {e}", self.id);
        if let Some(frozen) = self.arrived.lock().take() {
            if fit_log(&self.disk, &frozen.position).map_err(|e| text(&e))? {
                *self.flushed.lock() = frozen.state.fork();
            }
        }
        let backend = self.flushed.lock().fork();
        let (machine, position) = Machine::open(backend.clone()).map_err(|e| text(&e))?;
        let state = machine.shared().clone();
        self.runs += 1;
        self.clock = now;
        self.asleep_until = 0;
        self.ended = false;
        self.compared = position.index;
        let options = NodeOptions {
            member_id: self.id,
            run: (self.id << 32) | self.runs,
            initial_voters: self.initial_voters.clone(),
            heartbeat_ms: HEARTBEAT,
            election_ms: ELECTION,
            entries_to_keep: KEPT,
            expects_others: true,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|e| text(&e))?;
        self.disk.begin();
        runtime.spawn(self.disk.clone().serve(rng.random()));

        let lessor = Arc::new(Lessor::default());
        {
            // By the clock of the process.
            let _inside = runtime.enter();
            state.lease_ttls().into_iter().for_each(|(id, ttl, remaining)| lessor.granted(id, ttl, remaining));
        }
        // Its thread has nothing to do: so few watchers are marked on the spot.
        let hub = Hub::start(state.store.clone()).map_err(|e| text(&e))?;
        let witness = Arc::new(Witness::new(self.id, self.around.truth.clone(), lessor.clone(), hub.clone()));
        let transport = Arc::new(SimTransport { me: self.id, net: self.around.net.clone(), frozen: self.around.frozen.clone() });
        let flushed = self.flushed.clone();
        let flushed = move || position_of(&flushed.lock());
        let checkpoint = self.checkpoints(backend.clone());
        let (node, failed): (Arc<Mutex<_>>, Arc<Mutex<_>>) = Default::default();
        let (slot, failure, disk, clocks) = (node.clone(), failed.clone(), self.disk.clone(), lessor.clone());
        runtime.spawn(async move {
            match Node::open(&options, disk, machine, position, flushed, Around { observer: witness, transport, checkpoint })
                .await
            {
                Ok(node) => {
                    let node = Arc::new(node);
                    tokio::spawn(expire_leases(node.clone(), clocks));
                    *slot.lock() = Some(node);
                }
                Err(e) => *failure.lock() = Some(e.to_string()),
            }
        });
        self.process = Some(Process { runtime, node, failed, state, lessor, hub, backend, listens: false });
        Ok(())
    }

    fn checkpoints(&self, backend: MemoryBackend) -> MakeCheckpoint {
        let frozen = self.around.frozen.clone();
        let (id, run) = (self.id, self.runs);
        Arc::new(move || {
            let state = backend.fork();
            let position = position_of(&state)?;
            let mut frozen = frozen.lock();
            let name = format!("{id}-{run}-{}", frozen.len());
            frozen.insert(name.clone(), Frozen { position: position.clone(), state });
            // There are no files, and nothing is at this path.
            let path = PathBuf::from("/nonexistent/keelson-simulation").join(&name);
            Ok(Checkpoint { name, path, position, files: Vec::new() })
        })
    }

    /// Lets the process live up to a time; it may have found out by then that it cannot go on.
    pub(super) fn step(&mut self, now: Time) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if now < self.asleep_until {
            return Ok(());
        }
        let behind = now.saturating_sub(self.clock);
        self.clock = now;
        process.runtime.block_on(async {
            if behind > 1 {
                // It was asleep: all its timers are late at once.
                tokio::time::advance(Duration::from_millis(behind - 1)).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        });
        let failed = process.failed.lock().take();
        if let Some(failed) = failed {
            return self.ends(format!("member {} cannot start: {failed}", self.id));
        }
        let node = process.node.lock().clone();
        if let Some(node) = node {
            if !process.listens {
                process.listens = true;
                self.around.net.listen(self.id, self.runs);
            }
            let status = node.status();
            if let Some(failed) = status.failed {
                return self.ends(format!("consensus of member {} has failed: {failed}", self.id));
            }
            self.compare(status.applied);
            if status.is_leader {
                self.around.truth.lock().leads(self.id, status.term);
            }
        }
        Ok(())
    }

    /// A failed disk is the only good reason to end.
    fn ends(&mut self, why: String) -> Result<(), String> {
        self.ended = self.disk.has_failed() && why.contains(FAILED);
        if self.ended { Ok(()) } else { Err(why) }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.process.is_some() && self.ended
    }

    pub(super) fn fail_disk(&self) {
        self.disk.fail_next();
    }

    /// Entries that were applied since the last look are what others have applied.
    fn compare(&mut self, applied: u64) {
        let rows = self.disk.read(self.compared + 1..applied + 1, usize::MAX).unwrap_or_default();
        let mut truth = self.around.truth.lock();
        for (index, row) in rows {
            truth.committed(self.id, index, row);
        }
        self.compared = self.compared.max(applied);
    }

    /// A state has arrived: the process is to start anew with it.
    pub(super) fn wants_to_start_anew(&self) -> bool {
        self.process.is_some() && self.arrived.lock().is_some()
    }

    /// The state as it is now gets to the disk.
    pub(super) fn flush(&self) {
        if let Some(process) = &self.process {
            *self.flushed.lock() = process.backend.fork();
        }
    }

    pub(super) fn crash(&mut self, rng: &mut SmallRng, power: bool) {
        self.around.net.gone(self.id);
        let Some(process) = self.process.take() else { return };
        drop(process.node.lock().take());
        drop(process);
        self.disk.crash(rng, power);
    }

    /// Does what another member asks, if the process lives.
    pub(super) fn take(&self, delivery: Delivery, rng: &mut SmallRng) {
        let (Some(node), Some(process)) = (self.node(), &self.process) else { return };
        let net = self.around.net.clone();
        let _inside = process.runtime.enter();
        match delivery {
            Delivery::Call { from, to, call, answer } => {
                let arrived = self.arrived.clone();
                let transfer = Duration::from_millis(rng.random_range(1..TRANSFER));
                tokio::spawn(async move {
                    let outcome = serve(&node, call, &arrived, transfer).await.map_err(|e| PeerError::Lost(e.to_string()));
                    net.answer(to, from, answer, outcome);
                });
            }
            Delivery::Stream { id, requests, .. } => drop(tokio::spawn(append(node, net, id, requests))),
        }
    }
}

/// As a member does it by itself, for as long as its process lives.
async fn expire_leases(node: Arc<Node>, lessor: Arc<Lessor>) {
    loop {
        tokio::time::sleep(EXPIRY).await;
        let ended = tokio::time::timeout(PATIENCE, node.take_ended_leases(&lessor, EXPIRY_LIMIT)).await;
        let Ok(Ok((term, ended))) = ended else { continue };
        for id in ended {
            let revoke = Action::LeaseRevoke(LeaseRevoke { id, expired_in_term: term });
            let command = Command { action: Some(revoke), ..Command::default() };
            let reply = tokio::time::timeout(PATIENCE, node.propose(&command)).await;
            lessor.proposed(id, &reply.unwrap_or(Err(Error::Timeout)));
        }
    }
}

async fn serve(node: &Node, call: Call, arrived: &Mutex<Option<Frozen>>, transfer: Duration) -> io::Result<Reply> {
    Ok(match call {
        Call::Vote(r) => Reply::Vote(node.vote(r).await?),
        Call::Transfer(r) => Reply::Transfer(node.take_over(r).await?),
        Call::Propose(r) => Reply::Propose(node.accept(r).await?),
        Call::ReadIndex => Reply::ReadIndex(node.read_index().await),
        Call::Snapshot(vote, frozen) => {
            let last = peer::LogId { term: frozen.position.term, index: frozen.position.index };
            Reply::Snapshot(match node.wants_checkpoint(Some(vote), last).await? {
                Err(higher) => peer::SnapshotReply { higher_vote: Some(higher), ..Default::default() },
                Ok(wanted) => {
                    if wanted {
                        // Its files come one after the other, and whoever leads may change meanwhile.
                        tokio::time::sleep(transfer).await;
                        *arrived.lock() = Some(frozen);
                    }
                    peer::SnapshotReply { complete: true, ..Default::default() }
                }
            })
        }
    })
}

async fn append(node: Arc<Node>, net: Net, id: u64, mut requests: mpsc::UnboundedReceiver<peer::AppendRequest>) {
    let requests = futures::stream::poll_fn(move |cx| requests.poll_recv(cx)).map(Ok).boxed();
    let mut replies = node.append(requests);
    while let Some(reply) = replies.next().await {
        net.send_up(id, Some(reply.map_err(|e| PeerError::Lost(e.to_string()))));
    }
    net.send_up(id, None);
}
