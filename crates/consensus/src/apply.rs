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
use keelson_mvcc::{Backend, StorageError};
use keelson_state::{Applied, Machine, Position, Reply};
use openraft::EntryPayload;
use openraft::storage::ApplyResponder;
use prost::Message;
use tokio::sync::watch;

use crate::codec;
use crate::types::{BatchReply, RaftEntry, Types};

/// A write to the state store is cut after about so many bytes.
const COMMIT_BYTES: usize = 4 << 20;

/// Learns what was applied, on the way to the proposers: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Revisions and leases of one batch, already readable; writing it to the state store took so long.
    fn applied(&self, applied: Applied, took: Duration);
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
    applied_index: watch::Sender<u64>,
}

impl<B: Backend> Applier<B> {
    pub(crate) fn new(machine: Machine<B>, position: Position, observer: Arc<dyn Observer>) -> Self {
        let applied_index = watch::Sender::new(position.index);
        Self { machine, position, observer, applied_index }
    }

    /// Index of the newest applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied_index.subscribe()
    }

    fn command(&mut self, encoded: bytes::Bytes, term: u64) -> Result<Result<Reply, Error>, StorageError> {
        match Command::decode(encoded) {
            Ok(command) => self.machine.apply(&command, term),
            Err(e) => Err(StorageError(format!("a command in the raft log cannot be decoded: {e}"))),
        }
    }

    fn commit(&mut self, answers: &mut Vec<(ApplyResponder<Types>, BatchReply)>) -> io::Result<()> {
        let begun = Instant::now();
        let applied = self.machine.commit(&self.position).map_err(io::Error::other)?;
        self.observer.applied(applied, begun.elapsed());
        self.applied_index.send_replace(self.position.index);
        for (responder, replies) in answers.drain(..) {
            responder.send(replies);
        }
        Ok(())
    }
}

impl<B: Backend> Apply for Applier<B> {
    fn apply(&mut self, entries: Run) -> io::Result<()> {
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
}
