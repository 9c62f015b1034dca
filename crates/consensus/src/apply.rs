//! The thread that applies committed entries. A run of entries becomes one write to the state
//! store; then the new revision is published, the observer is told, and only then are the
//! proposers answered, so that nobody hears of a write that cannot be read yet.

use std::io;
use std::sync::{Arc, mpsc};

use keelson_api::Error;
use keelson_api::keelson::Command;
use keelson_mvcc::{Backend, StorageError};
use keelson_state::{Applied, Machine, Position, Reply};
use openraft::EntryPayload;
use openraft::storage::ApplyResponder;
use prost::Message;
use tokio::sync::{oneshot, watch};

use crate::codec;
use crate::types::{BatchReply, RaftEntry, Types};

/// A write to the state store is cut after about so many bytes.
const COMMIT_BYTES: usize = 4 << 20;

/// Learns what was applied, on the apply thread: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Revisions and leases of one batch, already readable; `term` and `index` are its log position.
    fn applied(&self, applied: Applied, term: u64, index: u64);
}

/// Committed entries in order, with the responders of those proposed here.
pub(crate) struct Run {
    pub(crate) entries: Vec<(RaftEntry, Option<ApplyResponder<Types>>)>,
    pub(crate) done: oneshot::Sender<io::Result<()>>,
}

pub(crate) struct Applier<B: Backend> {
    machine: Machine<B>,
    position: Position,
    observer: Arc<dyn Observer>,
    applied_index: watch::Sender<u64>,
}

impl<B: Backend> Applier<B> {
    /// Starts the thread; it ends when the sender is dropped.
    pub(crate) fn start(
        machine: Machine<B>,
        position: Position,
        observer: Arc<dyn Observer>,
    ) -> io::Result<(mpsc::Sender<Run>, watch::Receiver<u64>, std::thread::JoinHandle<()>)> {
        let applied_index = watch::Sender::new(position.index);
        let applied = applied_index.subscribe();
        let (runs, queue) = mpsc::channel::<Run>();
        let mut applier = Self { machine, position, observer, applied_index };
        let thread = std::thread::Builder::new().name("apply".into()).spawn(move || {
            while let Ok(run) = queue.recv() {
                let result = applier.apply(run.entries);
                // The node is being stopped when nobody waits.
                let _ = run.done.send(result);
            }
        })?;
        Ok((runs, applied, thread))
    }

    fn apply(&mut self, entries: Vec<(RaftEntry, Option<ApplyResponder<Types>>)>) -> io::Result<()> {
        let mut answers: Vec<(ApplyResponder<Types>, BatchReply)> = Vec::new();
        for (entry, responder) in entries {
            let term = codec::term_of(&entry.log_id);
            let mut replies = BatchReply::new();
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(m) => {
                    self.position.membership = Some(codec::membership_row(Some(&entry.log_id), m));
                }
                EntryPayload::Normal(batch) => {
                    for command in codec::unpack(batch) {
                        replies.push(self.command(command?, term).map_err(io::Error::other)?);
                    }
                }
            }
            self.position.term = term;
            self.position.index = entry.log_id.index;
            if let Some(responder) = responder {
                answers.push((responder, replies));
            }
            if self.machine.pending_bytes() > COMMIT_BYTES {
                self.commit(&mut answers)?;
            }
        }
        self.commit(&mut answers)
    }

    fn command(&mut self, encoded: bytes::Bytes, term: u64) -> Result<Result<Reply, Error>, StorageError> {
        match Command::decode(encoded) {
            Ok(command) => self.machine.apply(&command, term),
            Err(e) => Err(StorageError(format!("a command in the raft log cannot be decoded: {e}"))),
        }
    }

    fn commit(&mut self, answers: &mut Vec<(ApplyResponder<Types>, BatchReply)>) -> io::Result<()> {
        let applied = self.machine.commit(&self.position).map_err(io::Error::other)?;
        self.observer.applied(applied, self.position.term, self.position.index);
        self.applied_index.send_replace(self.position.index);
        for (responder, replies) in answers.drain(..) {
            responder.send(replies);
        }
        Ok(())
    }
}
