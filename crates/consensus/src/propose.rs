//! Proposals are gathered into batches: while some batches are on their way through the log,
//! everything that arrives becomes the next one.

use std::sync::Arc;

use bytes::Bytes;
use keelson_api::Error;
use keelson_state::Reply;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::codec;
use crate::node::Raft;
use crate::types::{Callback, Types};

/// Batches in the log at once. Two keep the disk busy; more only make batches smaller.
const IN_FLIGHT: usize = 2;
/// Commands in one batch.
const BATCH_COMMANDS: usize = 1024;
/// Bytes in one batch, about.
const BATCH_BYTES: usize = 2 << 20;

pub(crate) type Answer = oneshot::Sender<Result<Reply, Error>>;

/// An encoded command and who waits for it.
pub(crate) struct Proposal {
    pub(crate) command: Bytes,
    pub(crate) answer: Answer,
}

pub(crate) async fn run(raft: Raft, mut queue: mpsc::Receiver<Proposal>) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut batch: Vec<Proposal> = Vec::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        if batch.is_empty() {
            match queue.recv().await {
                Some(first) => batch.push(first),
                None => return,
            }
        }
        let mut bytes: usize = batch.iter().map(|p| p.command.len()).sum();
        while batch.len() < BATCH_COMMANDS && bytes < BATCH_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.command.len();
            batch.push(next);
        }
        let packed = codec::pack(batch.iter().map(|p| &p.command));
        let answers: Vec<Answer> = batch.drain(..).map(|p| p.answer).collect();
        let callback = Callback::new(move |result: ClientWriteResult<Types>| {
            drop(permit);
            distribute(answers, result);
        });
        if let Err(e) = raft.client_write_ff(packed, Some(callback)).await {
            tracing::error!(error = %e, "consensus has stopped");
            return;
        }
    }
}

/// Gives each proposer its answer. One that no longer waits has timed out or gone away.
fn distribute(answers: Vec<Answer>, result: ClientWriteResult<Types>) {
    match result {
        Ok(response) => {
            for (answer, reply) in answers.into_iter().zip(response.data) {
                let _ = answer.send(reply);
            }
        }
        Err(e) => {
            let error = match e {
                ClientWriteError::ForwardToLeader(f) if f.leader_id.is_none() => Error::NoLeader,
                _ => Error::LeaderChanged,
            };
            for answer in answers {
                let _ = answer.send(Err(error));
            }
        }
    }
}
