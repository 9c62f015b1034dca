//! Applies committed entries. A run of entries becomes one write to the state store; then the new
//! revision is published, the observer is told, and only then are the proposers answered, so that
//! nobody hears of a write that cannot be read yet.
//!
//! It runs inside consensus' own runtime rather than on a thread of its own: handing a run over and
//! back cost more than applying it (`docs/decisions/0003-apply-inline.md`).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_api::Error;
use keelson_api::keelson::Command;
use keelson_mvcc::Backend;
use keelson_state::{Applied, Machine, Position, Reply};
use openraft::EntryPayload;
use openraft::storage::ApplyResponder;
use tokio::sync::watch;

use crate::codec;
use crate::pending::{Pending, Replies, Waiting};
use crate::types::{RaftEntry, Types};

/// A write to the state store is cut after about so many bytes.
const COMMIT_BYTES: usize = 4 << 20;

/// Learns what was applied, on the way to the proposers: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Revisions and leases of one batch, already readable; writing it to the state store took so long.
    fn applied(&self, applied: Applied, took: Duration);

    /// A command went well or was refused, which took so long; nobody can read it yet.
    fn command_applied(&self, _command: &Command, _reply: &Result<Reply, Error>, _took: Duration) {}

    /// A heartbeat of this leader was sent so late that followers came close to an election.
    fn heartbeat_was_late(&self) {}
}

/// Committed entries in order, with the responders of those proposed here.
pub(crate) type Run = Vec<(RaftEntry, Option<ApplyResponder<Types>>)>;

/// Applies runs, whatever the engine beneath.
pub(crate) trait Apply: Send {
    fn apply(&mut self, run: Run) -> io::Result<()>;
}

pub(crate) struct Applier<B: Backend> {
    machine: Machine<B>,
    position: Position,
    observer: Arc<dyn Observer>,
    pending: Arc<Pending>,
    applied_index: watch::Sender<u64>,
}

/// Whom to tell once a batch can be read.
#[derive(Default)]
struct Answers {
    responders: Vec<ApplyResponder<Types>>,
    waiting: Vec<(Waiting, Replies)>,
}

impl<B: Backend> Applier<B> {
    pub(crate) fn new(machine: Machine<B>, position: Position, observer: Arc<dyn Observer>, pending: Arc<Pending>) -> Self {
        let applied_index = watch::Sender::new(position.index);
        Self { machine, position, observer, pending, applied_index }
    }

    /// Index of the newest applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied_index.subscribe()
    }

    fn commit(&mut self, answers: &mut Answers) -> io::Result<()> {
        let begun = Instant::now();
        let applied = self.machine.commit(&self.position).map_err(io::Error::other)?;
        self.observer.applied(applied, begun.elapsed());
        self.applied_index.send_replace(self.position.index);
        for (waiting, replies) in answers.waiting.drain(..) {
            waiting.answer(replies);
        }
        for responder in answers.responders.drain(..) {
            responder.send(());
        }
        Ok(())
    }
}

impl<B: Backend> Apply for Applier<B> {
    fn apply(&mut self, entries: Run) -> io::Result<()> {
        let mut answers = Answers::default();
        for (entry, responder) in entries {
            let term = codec::term_of(&entry.log_id);
            if term > self.position.term {
                self.pending.term_began(term);
            }
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(m) => {
                    self.position.membership = Some(codec::membership_row(Some(&entry.log_id), m));
                }
                EntryPayload::Normal(batch) => {
                    let (id, commands) = codec::unpack(batch)?;
                    let mut replies = Replies::new();
                    let mut begun = Instant::now();
                    for command in commands {
                        let command = codec::decode_command(command?)?;
                        let reply = self.machine.apply(&command, term, entry.log_id.index).map_err(io::Error::other)?;
                        let ended = Instant::now();
                        self.observer.command_applied(&command, &reply, ended - begun);
                        begun = ended;
                        replies.push(reply);
                    }
                    if let Some(batch) = self.pending.take(id) {
                        answers.waiting.push((batch.waiting, replies));
                    }
                }
            }
            self.position.term = term;
            self.position.index = entry.log_id.index;
            answers.responders.extend(responder);
            if self.machine.pending_bytes() > COMMIT_BYTES {
                self.commit(&mut answers)?;
            }
        }
        self.commit(&mut answers)
    }
}
