//! Linearizable reads share their proof: all reads that are waiting when a round begins are served
//! by that one round, and reads that come later wait for the next.

use keelson_api::Error;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use tokio::sync::{mpsc, oneshot, watch};

use crate::node::Raft;

/// Reads served by one round at most.
const ROUND: usize = 4096;

pub(crate) type Waiter = oneshot::Sender<Result<(), Error>>;

pub(crate) async fn run(raft: Raft, mut applied: watch::Receiver<u64>, mut queue: mpsc::Receiver<Waiter>) {
    let mut waiters = Vec::new();
    while queue.recv_many(&mut waiters, ROUND).await > 0 {
        let result = round(&raft, &mut applied).await;
        for waiter in waiters.drain(..) {
            // A reader that no longer waits has timed out or gone away.
            let _ = waiter.send(result);
        }
    }
}

async fn round(raft: &Raft, applied: &mut watch::Receiver<u64>) -> Result<(), Error> {
    let linearizer = raft.get_read_linearizer(ReadPolicy::ReadIndex).await.map_err(|e| match e {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(f)) if f.leader_id.is_none() => Error::NoLeader,
        RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => Error::LeaderChanged,
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => Error::Timeout,
        RaftError::Fatal(_) => Error::Stopped,
    })?;
    let index = linearizer.read_log_id().index();
    applied.wait_for(|a| *a >= index).await.map_err(|_| Error::Stopped)?;
    Ok(())
}
