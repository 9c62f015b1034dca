//! Proposals are gathered into batches: while some batches are on their way through the log,
//! everything that arrives becomes the next one. A batch goes to the leader, here or elsewhere; if it
//! is proven that the leader did not put it in the log, it goes to the next one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keelson_api::keelson::peer;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::sync::{Semaphore, mpsc};

use crate::codec;
use crate::lead::{self, Lead};
use crate::node::Raft;
use crate::pending::{Answer, Pending, Sealed, Waiting};
use crate::transport::{PeerError, Transport};
use crate::types::{Callback, Types};

/// Batches in the log at once. Two keep the disk busy; more only make batches smaller.
const IN_FLIGHT: usize = 2;
/// As above, for batches that cross the network first.
const IN_FLIGHT_FORWARDED: usize = 8;
/// Commands in one batch.
pub(crate) const BATCH_COMMANDS: usize = 1024;
/// Bytes in one batch, about.
pub(crate) const BATCH_BYTES: usize = 2 << 20;
/// A leader that has not answered for so long will not be waited for; whether it took the batch is
/// then not known.
const FORWARD_LIMIT: Duration = Duration::from_secs(10);

/// Batches that are on their way for so long may be waiting for a quorum, and their clients may have given up.
const STUCK: Duration = Duration::from_millis(200);

/// An encoded command and who waits for it.
pub(crate) struct Proposal {
    pub(crate) command: Bytes,
    pub(crate) answer: Answer,
}

/// Where proposals go.
#[derive(Clone)]
pub(crate) struct Proposer {
    pub(crate) member_id: u64,
    pub(crate) raft: Raft,
    pub(crate) pending: Arc<Pending>,
    pub(crate) transport: Arc<dyn Transport>,
    retry: mpsc::UnboundedSender<Sealed>,
}

fn seal(pending: &Pending, batch: &mut Vec<Proposal>, room: tokio::sync::OwnedSemaphorePermit) -> Sealed {
    let id = pending.name();
    let payload = codec::pack(id, batch.iter().map(|p| &p.command));
    let waiting = Waiting::new(batch.drain(..).map(|p| p.answer).collect(), room);
    Sealed { id, payload, waiting }
}

pub(crate) async fn run(
    member_id: u64,
    raft: Raft,
    pending: Arc<Pending>,
    transport: Arc<dyn Transport>,
    mut queue: mpsc::Receiver<Proposal>,
) {
    let (retry, mut again) = mpsc::unbounded_channel();
    let proposer = Proposer { member_id, raft, pending, transport, retry };
    let here = Arc::new(Semaphore::new(IN_FLIGHT));
    let elsewhere = Arc::new(Semaphore::new(IN_FLIGHT_FORWARDED));
    let mut batch: Vec<Proposal> = Vec::new();
    loop {
        let is_leader = lead::current(&proposer.raft).is_some_and(|l| l.leader == member_id);
        let room = if is_leader { here.clone() } else { elsewhere.clone() };
        let room = tokio::select! {
            biased;
            Some(sealed) = again.recv() => {
                proposer.send_again(sealed).await;
                continue;
            }
            // The semaphores are never closed.
            Ok(room) = room.acquire_owned() => room,
            () = tokio::time::sleep(STUCK) => {
                proposer.pending.forget_unwanted();
                continue;
            }
        };
        tokio::select! {
            biased;
            Some(sealed) = again.recv() => {
                proposer.send_again(sealed).await;
                continue;
            }
            first = queue.recv() => match first {
                Some(first) => batch.push(first),
                None => return,
            },
        }
        let mut bytes: usize = batch.iter().map(|p| p.command.len()).sum();
        while batch.len() < BATCH_COMMANDS && bytes < BATCH_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.command.len();
            batch.push(next);
        }
        // While nothing can be decided, the queue fills with what has been given up.
        batch.retain(|proposal| !proposal.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        let sealed = seal(&proposer.pending, &mut batch, room);
        if !proposer.send(sealed).await {
            tracing::error!("consensus has stopped");
            return;
        }
    }
}

impl Proposer {
    async fn send_again(&self, sealed: Sealed) {
        if sealed.waiting.is_wanted() {
            lead::wait_a_moment().await;
            // When consensus has stopped, the next batch will find out too.
            let _ = self.send(sealed).await;
        }
    }

    /// Gives a batch to the leader; false when consensus has stopped.
    async fn send(&self, sealed: Sealed) -> bool {
        match lead::current(&self.raft) {
            None => self.give_back(sealed),
            Some(lead) if lead.leader == self.member_id => return self.write(lead.term, sealed).await,
            Some(lead) => {
                let this = self.clone();
                tokio::spawn(async move { this.forward(lead, sealed).await });
            }
        }
        true
    }

    fn give_back(&self, sealed: Sealed) {
        // The loop that receives ends only with this member.
        let _ = self.retry.send(sealed);
    }

    async fn write(&self, term: u64, sealed: Sealed) -> bool {
        let (id, payload) = (sealed.id, sealed.payload.clone());
        self.pending.submit(term, sealed);
        let this = self.clone();
        let callback = Callback::new(move |result: ClientWriteResult<Types>| {
            if result.is_err_and(|e| nothing_was_appended(&e))
                && let Some(sealed) = this.pending.take(id)
            {
                this.give_back(sealed);
            }
        });
        self.raft.write(payload).responder(callback).with_leader(term).await.is_ok()
    }

    async fn forward(&self, lead: Lead, sealed: Sealed) {
        let (id, batch) = (sealed.id, sealed.payload.0.clone());
        self.pending.submit(lead.term, sealed);
        let request = peer::ProposeRequest { term: lead.term, batch };
        let reply = tokio::time::timeout(FORWARD_LIMIT, self.transport.propose(lead.leader, request)).await;
        let refused = match reply {
            Ok(Ok(reply)) => !reply.accepted,
            Ok(Err(PeerError::Unreachable(_))) => true,
            // It may be in the log: whether it is shows when it, or a later term, is applied here.
            Ok(Err(PeerError::Lost(_))) | Err(_) => false,
        };
        if refused && let Some(sealed) = self.pending.take(id) {
            self.give_back(sealed);
        }
    }
}

/// Whether an error proves that the entry is not, and will never be, in the log.
pub(crate) fn nothing_was_appended(e: &ClientWriteError<Types>) -> bool {
    match e {
        ClientWriteError::ForwardToLeader(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_) => true,
        ClientWriteError::LogEntryDiscarded(_) => false,
    }
}
