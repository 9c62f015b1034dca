//! A network in which everything takes a while and anything may be cut, one direction at a time. It behaves as
//! connections do: a stream keeps its order or breaks as a whole; a call arrives once, or twice where that must do no harm, and whoever waits for
//! an answer that does not come finds out only after a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use keelson_api::keelson::peer;
use keelson_mvcc::MemoryBackend;
use keelson_state::Position;
use parking_lot::Mutex;
use prost::Message;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::truth::Shared;
use crate::snapshot::Checkpoint;
use crate::transport::{Answer, PeerError, Replies, Requests, Transport};

/// Milliseconds since the world began.
pub(super) type Time = u64;

/// Milliseconds in which a connection is made, or given up.
const DIAL: Time = 700;
/// Milliseconds after which a silent connection counts as broken.
const PING: Time = 500;
/// How soon what is stuck is tried again.
const AGAIN: Time = 20;

/// A state that travels, by the name of its checkpoint.
#[derive(Clone)]
pub(super) struct Frozen {
    pub(super) position: Position,
    pub(super) state: MemoryBackend,
}

/// What one member asks of another.
pub(super) enum Call {
    Vote(peer::VoteRequest),
    Transfer(peer::TransferRequest),
    Propose(peer::ProposeRequest),
    ReadIndex,
    Snapshot(peer::Vote, Frozen),
}

impl Call {
    /// The same once more, where that must do no harm.
    fn again(&self) -> Option<Self> {
        Some(match self {
            Self::Vote(request) => Self::Vote(request.clone()),
            Self::Transfer(request) => Self::Transfer(request.clone()),
            Self::ReadIndex => Self::ReadIndex,
            Self::Snapshot(vote, frozen) => Self::Snapshot(vote.clone(), frozen.clone()),
            Self::Propose(_) => return None,
        })
    }
}

/// What it is answered.
pub(super) enum Reply {
    Vote(peer::VoteReply),
    Transfer(peer::TransferReply),
    Propose(peer::ProposeReply),
    ReadIndex(peer::ReadIndexReply),
    Snapshot(peer::SnapshotReply),
}

type Outcome = Result<Reply, PeerError>;
type Slot = oneshot::Sender<Outcome>;

/// Something for a member that has arrived: the world hands it to its process.
pub(super) enum Delivery {
    Call { from: u64, to: u64, call: Call, answer: Slot },
    Stream { id: u64, to: u64, requests: mpsc::UnboundedReceiver<peer::AppendRequest> },
}

enum Parcel {
    Call {
        from: u64,
        to: u64,
        run: u64,
        call: Call,
        answer: Slot,
    },
    Return {
        from: u64,
        to: u64,
        answer: Slot,
        outcome: Outcome,
    },
    Open(u64),
    /// The next request, or the next answer, of a stream.
    Down(u64),
    Up(u64),
    /// Dropped when it is due: its sender finds out that it is lost.
    Forget(#[allow(dead_code)] Slot),
}

/// One direction between two members.
#[derive(Clone, Copy, Default)]
struct Link {
    cut: bool,
    /// Milliseconds that everything takes longer, at most.
    slow: Time,
}

struct Stream {
    from: u64,
    to: u64,
    /// The process it was made to.
    run: u64,
    /// `None` ends it.
    down: VecDeque<Option<peer::AppendRequest>>,
    up: VecDeque<Option<Result<peer::AppendReply, PeerError>>>,
    requests: Option<mpsc::UnboundedSender<peer::AppendRequest>>,
    answers: Option<mpsc::UnboundedSender<Result<peer::AppendReply, PeerError>>>,
    last_down: Time,
    last_up: Time,
    stuck: Option<Time>,
}

struct Inner {
    now: Time,
    rng: SmallRng,
    next: u64,
    due: BTreeMap<(Time, u64), Parcel>,
    links: BTreeMap<(u64, u64), Link>,
    /// Members that listen, with the run of their process.
    up: BTreeMap<u64, u64>,
    streams: BTreeMap<u64, Stream>,
    truth: Shared,
}

/// The one network of a world.
#[derive(Clone)]
pub(super) struct Net {
    inner: Arc<Mutex<Inner>>,
}

impl Inner {
    fn link(&self, from: u64, to: u64) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    fn delay(&mut self, from: u64, to: u64) -> Time {
        let slow = self.link(from, to).slow;
        self.rng.random_range(0..=1) + if slow > 0 { self.rng.random_range(0..=slow) } else { 0 }
    }

    fn post(&mut self, at: Time, parcel: Parcel) {
        self.next += 1;
        self.due.insert((at, self.next), parcel);
    }

    fn call(&mut self, from: u64, to: u64, call: Call, answer: Slot) {
        let cut = self.link(from, to).cut || self.link(to, from).cut;
        let refused = |text: &str| Err(PeerError::Unreachable(text.into()));
        match self.up.get(&to).copied() {
            // No connection, and none to be had.
            _ if cut && self.rng.random_bool(0.5) => {
                let at = self.now + DIAL;
                self.post(at, Parcel::Return { from, to: from, answer, outcome: refused("no connection") });
            }
            None => {
                let at = self.now + 1 + self.delay(from, to);
                self.post(at, Parcel::Return { from, to: from, answer, outcome: refused("nobody listens") });
            }
            Some(run) => {
                let mut at = self.now + self.delay(from, to);
                if let Call::Snapshot(..) = call {
                    at += self.rng.random_range(5..400);
                }
                if self.rng.random_bool(0.05)
                    && let Some(call) = call.again()
                {
                    let (answer, _) = oneshot::channel();
                    let again = at + self.rng.random_range(0..500);
                    self.post(again, Parcel::Call { from, to, run, call, answer });
                }
                self.post(at, Parcel::Call { from, to, run, call, answer });
            }
        }
    }

    fn note(&mut self, kind: &str, from: u64, to: u64, bytes: &[u8]) {
        self.truth.lock().trace.note((self.now, kind, from, to, bytes));
    }

    /// What becomes of a parcel that is due.
    fn arrive(&mut self, parcel: Parcel) -> Option<Delivery> {
        match parcel {
            Parcel::Call { from, to, run, call, answer } => {
                if self.link(from, to).cut {
                    // Sent again until the cable is whole, or given up.
                    let late = self.now + self.rng.random_range(AGAIN..PING);
                    let parcel = if self.rng.random_bool(0.5) {
                        Parcel::Call { from, to, run, call, answer }
                    } else {
                        Parcel::Forget(answer)
                    };
                    self.post(late, parcel);
                    return None;
                }
                if self.up.get(&to) != Some(&run) {
                    // The connection was to a process that is gone: its sender does not know how far it got.
                    return None;
                }
                let (kind, bytes) = match &call {
                    Call::Vote(r) => ("vote", r.encode_to_vec()),
                    Call::Transfer(r) => ("transfer", r.encode_to_vec()),
                    Call::Propose(r) => ("propose", r.encode_to_vec()),
                    Call::ReadIndex => ("read index", Vec::new()),
                    Call::Snapshot(vote, frozen) => {
                        ("snapshot", [vote.encode_to_vec(), frozen.position.encode_to_vec()].concat())
                    }
                };
                self.note(kind, from, to, &bytes);
                Some(Delivery::Call { from, to, call, answer })
            }
            Parcel::Return { from, to, answer, outcome } => {
                if self.link(from, to).cut {
                    let late = self.now + PING;
                    self.post(late, Parcel::Forget(answer));
                } else {
                    self.note("answer", from, to, &[u8::from(outcome.is_ok())]);
                    // Its process may be gone.
                    let _ = answer.send(outcome);
                }
                None
            }
            Parcel::Forget(_) => None,
            Parcel::Open(id) => self.opened(id),
            Parcel::Down(id) => {
                self.down(id);
                None
            }
            Parcel::Up(id) => {
                self.up(id);
                None
            }
        }
    }

    /// Whether a stream can move now; tries again later, or breaks it, if not.
    fn moves(&mut self, id: u64, again: Parcel, down: bool) -> bool {
        let Some(stream) = self.streams.get(&id) else { return false };
        let (from, to, stuck) = (stream.from, stream.to, stream.stuck);
        if self.up.get(&to) != Some(&stream.run) {
            self.break_stream(id);
            return false;
        }
        let cut = if down { self.link(from, to).cut } else { self.link(to, from).cut };
        let since = if cut { Some(stuck.unwrap_or(self.now)) } else { None };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.stuck = since;
        }
        match since {
            None => true,
            Some(since) if self.now - since > PING => {
                self.break_stream(id);
                false
            }
            Some(_) => {
                let at = self.now + AGAIN;
                self.post(at, again);
                false
            }
        }
    }

    fn break_stream(&mut self, id: u64) {
        if let Some(stream) = self.streams.remove(&id)
            && let Some(answers) = stream.answers
        {
            self.note("broken", stream.from, stream.to, &[]);
            // Its process may be gone.
            let _ = answers.send(Err(PeerError::Lost("the connection broke".into())));
        }
    }

    fn opened(&mut self, id: u64) -> Option<Delivery> {
        if !self.moves(id, Parcel::Open(id), true) {
            return None;
        }
        let stream = self.streams.get_mut(&id)?;
        let (requests, queue) = mpsc::unbounded_channel();
        stream.requests = Some(requests);
        Some(Delivery::Stream { id, to: stream.to, requests: queue })
    }

    fn down(&mut self, id: u64) {
        // It has not been opened yet if that is stuck: order is kept.
        let is_open = self.streams.get(&id).is_none_or(|s| s.requests.is_some());
        if !is_open {
            let at = self.now + AGAIN;
            self.post(at, Parcel::Down(id));
            return;
        }
        if !self.moves(id, Parcel::Down(id), true) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (from, to) = (stream.from, stream.to);
        match stream.down.pop_front() {
            Some(Some(request)) => {
                let bytes = request.encode_to_vec();
                if let Some(requests) = &stream.requests {
                    // The receiver may have ended it, which its answers tell.
                    let _ = requests.send(request);
                }
                self.note("append", from, to, &bytes);
            }
            // A closed channel that stays: nothing comes after the end.
            Some(None) => stream.requests = Some(mpsc::unbounded_channel().0),
            None => {}
        }
    }

    fn up(&mut self, id: u64) {
        if !self.moves(id, Parcel::Up(id), false) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (from, to) = (stream.from, stream.to);
        match stream.up.pop_front() {
            Some(Some(reply)) => {
                let bytes = reply.as_ref().map(Message::encode_to_vec).unwrap_or_default();
                if let Some(answers) = &stream.answers {
                    let _ = answers.send(reply);
                }
                self.note("appended", to, from, &bytes);
            }
            Some(None) => drop(self.streams.remove(&id)),
            None => {}
        }
    }
}

impl Net {
    pub(super) fn new(seed: u64, truth: Shared) -> Self {
        let inner = Inner {
            now: 0,
            rng: SmallRng::seed_from_u64(seed),
            next: 0,
            due: BTreeMap::new(),
            links: BTreeMap::new(),
            up: BTreeMap::new(),
            streams: BTreeMap::new(),
            truth,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Moves on to a time, and gives what has arrived for processes.
    pub(super) fn advance(&self, now: Time) -> Vec<Delivery> {
        let mut inner = self.inner.lock();
        inner.now = now;
        let mut deliveries = Vec::new();
        while let Some(entry) = inner.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let parcel = entry.remove();
            deliveries.extend(inner.arrive(parcel));
        }
        deliveries
    }

    /// A process listens from now on.
    pub(super) fn listen(&self, member: u64, run: u64) {
        self.inner.lock().up.insert(member, run);
    }

    /// It is gone, and its connections with it.
    pub(super) fn gone(&self, member: u64) {
        let mut inner = self.inner.lock();
        inner.up.remove(&member);
        let broken: Vec<u64> =
            inner.streams.iter().filter(|(_, s)| s.from == member || s.to == member).map(|(id, _)| *id).collect();
        broken.into_iter().for_each(|id| inner.break_stream(id));
    }

    pub(super) fn cut(&self, from: u64, to: u64) {
        self.inner.lock().links.entry((from, to)).or_default().cut = true;
    }

    pub(super) fn slow(&self, from: u64, to: u64, slow: Time) {
        self.inner.lock().links.entry((from, to)).or_default().slow = slow;
    }

    /// All is well again.
    pub(super) fn heal(&self) {
        self.inner.lock().links.clear();
    }

    /// Sends back what a call was answered.
    pub(super) fn answer(&self, from: u64, to: u64, answer: Slot, outcome: Outcome) {
        let mut inner = self.inner.lock();
        let at = inner.now + inner.delay(from, to);
        inner.post(at, Parcel::Return { from, to, answer, outcome });
    }

    fn open(&self, from: u64, to: u64) -> Result<(u64, mpsc::UnboundedReceiver<Result<peer::AppendReply, PeerError>>), Time> {
        let mut inner = self.inner.lock();
        if inner.link(from, to).cut || inner.link(to, from).cut {
            return Err(DIAL);
        }
        let Some(run) = inner.up.get(&to).copied() else { return Err(1) };
        inner.next += 1;
        let id = inner.next;
        let at = inner.now + inner.delay(from, to);
        let (answers, replies) = mpsc::unbounded_channel();
        let stream = Stream {
            from,
            to,
            run,
            down: VecDeque::new(),
            up: VecDeque::new(),
            requests: None,
            answers: Some(answers),
            last_down: at,
            last_up: 0,
            stuck: None,
        };
        inner.streams.insert(id, stream);
        inner.post(at, Parcel::Open(id));
        Ok((id, replies))
    }

    fn send_down(&self, id: u64, request: Option<peer::AppendRequest>) {
        let mut inner = self.inner.lock();
        let Some((from, to)) = inner.streams.get(&id).map(|s| (s.from, s.to)) else { return };
        let at = inner.now + inner.delay(from, to);
        let Some(stream) = inner.streams.get_mut(&id) else { return };
        stream.down.push_back(request);
        stream.last_down = stream.last_down.max(at);
        let at = stream.last_down;
        inner.post(at, Parcel::Down(id));
    }

    pub(super) fn send_up(&self, id: u64, reply: Option<Result<peer::AppendReply, PeerError>>) {
        let mut inner = self.inner.lock();
        let Some((from, to)) = inner.streams.get(&id).map(|s| (s.from, s.to)) else { return };
        let at = inner.now + inner.delay(to, from);
        let Some(stream) = inner.streams.get_mut(&id) else { return };
        stream.up.push_back(reply);
        stream.last_up = stream.last_up.max(at);
        let at = stream.last_up;
        inner.post(at, Parcel::Up(id));
    }

    /// Who asked has lost interest: the other side sees the end of the requests.
    fn close(&self, id: u64) {
        let mut inner = self.inner.lock();
        if let Some(stream) = inner.streams.get_mut(&id) {
            stream.answers = None;
        }
        drop(inner);
        self.send_down(id, None);
    }
}

/// The network as one process sees it.
pub(super) struct SimTransport {
    pub(super) me: u64,
    pub(super) net: Net,
    /// Checkpoints by name, since only their name is in a [`Checkpoint`].
    pub(super) frozen: Arc<Mutex<BTreeMap<String, Frozen>>>,
}

/// One stream as who asked holds it.
struct Held {
    id: u64,
    net: Net,
    pump: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pump.abort();
        self.net.close(self.id);
    }
}

impl SimTransport {
    async fn ask(&self, to: u64, call: Call) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        self.net.inner.lock().call(self.me, to, call, answer);
        outcome.await.unwrap_or_else(|_| Err(PeerError::Lost("no answer".into())))
    }

    async fn open_append(&self, to: u64, mut requests: Requests) -> Result<Replies, PeerError> {
        let (id, replies) = match self.net.open(self.me, to) {
            Ok(opened) => opened,
            Err(wait) => {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                return Err(PeerError::Unreachable("no connection".into()));
            }
        };
        let net = self.net.clone();
        let pump = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                net.send_down(id, Some(request));
            }
            net.send_down(id, None);
        });
        let held = Held { id, net: self.net.clone(), pump };
        let replies = futures::stream::unfold((replies, held), |(mut replies, held)| async move {
            let reply = replies.recv().await?;
            Some((reply, (replies, held)))
        });
        Ok(replies.boxed())
    }
}

fn wrong<T>() -> Result<T, PeerError> {
    Err(PeerError::Lost("an answer to something else".into()))
}

impl Transport for SimTransport {
    fn append(&self, to: u64, requests: Requests) -> Answer<'_, Replies> {
        Box::pin(self.open_append(to, requests))
    }

    fn vote(&self, to: u64, request: peer::VoteRequest) -> Answer<'_, peer::VoteReply> {
        Box::pin(async move {
            match self.ask(to, Call::Vote(request)).await? {
                Reply::Vote(reply) => Ok(reply),
                _ => wrong(),
            }
        })
    }

    fn transfer(&self, to: u64, request: peer::TransferRequest) -> Answer<'_, peer::TransferReply> {
        Box::pin(async move {
            match self.ask(to, Call::Transfer(request)).await? {
                Reply::Transfer(reply) => Ok(reply),
                _ => wrong(),
            }
        })
    }

    fn propose(&self, to: u64, request: peer::ProposeRequest) -> Answer<'_, peer::ProposeReply> {
        Box::pin(async move {
            match self.ask(to, Call::Propose(request)).await? {
                Reply::Propose(reply) => Ok(reply),
                _ => wrong(),
            }
        })
    }

    fn read_index(&self, to: u64) -> Answer<'_, peer::ReadIndexReply> {
        Box::pin(async move {
            match self.ask(to, Call::ReadIndex).await? {
                Reply::ReadIndex(reply) => Ok(reply),
                _ => wrong(),
            }
        })
    }

    fn snapshot<'a>(&'a self, to: u64, vote: peer::Vote, checkpoint: &'a Checkpoint) -> Answer<'a, peer::SnapshotReply> {
        Box::pin(async move {
            let frozen = self.frozen.lock().get(&checkpoint.name).cloned();
            let Some(frozen) = frozen else { return wrong() };
            match self.ask(to, Call::Snapshot(vote, frozen)).await? {
                Reply::Snapshot(reply) => Ok(reply),
                _ => wrong(),
            }
        })
    }
}
