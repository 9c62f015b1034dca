//! Linearizable reads share their proof: all reads that are waiting when a round begins are served
//! by that one round, and reads that come later wait for the next. A follower asks the leader, and
//! the leader's proof serves all members that ask for one meanwhile.

use std::sync::Arc;
use std::time::Duration;

use keelson_api::Error;
use openraft::errors::RaftError;
use openraft::raft::ReadPolicy;
use tokio::sync::{mpsc, oneshot, watch};

use crate::lead;
use crate::node::Raft;
use crate::transport::Transport;

/// Reads served by one round at most.
const ROUND: usize = 4096;
/// A leader that does not answer within this is asked again, or another one is.
const ASK_LIMIT: Duration = Duration::from_millis(500);

pub(crate) type Waiter = oneshot::Sender<Result<(), Error>>;
/// The index that a read has to wait for, or nothing if this member cannot prove that it leads.
type Proof = Result<Option<u64>, Error>;

/// How this member finds out what a read has to wait for.
#[derive(Clone)]
pub(crate) struct ReadIndex {
    pub(crate) member_id: u64,
    raft: Raft,
    transport: Arc<dyn Transport>,
    proofs: mpsc::UnboundedSender<oneshot::Sender<Proof>>,
}

/// Proves, for as long as somebody may ask, that this member leads. Each member asks once at a time.
async fn provide(raft: Raft, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Proof>>) {
    let mut asking = Vec::new();
    while asked.recv_many(&mut asking, ROUND).await > 0 {
        let proof = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(Some(linearizer.read_log_id().index())),
            Err(RaftError::APIError(_)) => Ok(None),
            Err(RaftError::Fatal(_)) => Err(Error::Stopped),
        };
        for answer in asking.drain(..) {
            // Who has gone away does not need it.
            let _ = answer.send(proof);
        }
    }
}

pub(crate) async fn run(reads: ReadIndex, mut applied: watch::Receiver<u64>, mut queue: mpsc::Receiver<Waiter>) {
    let mut waiters = Vec::new();
    while queue.recv_many(&mut waiters, ROUND).await > 0 {
        let result = round(&reads, &mut applied, &mut waiters).await;
        for waiter in waiters.drain(..) {
            // A reader that no longer waits has timed out or gone away.
            let _ = waiter.send(result);
        }
    }
}

async fn round(reads: &ReadIndex, applied: &mut watch::Receiver<u64>, waiters: &mut Vec<Waiter>) -> Result<(), Error> {
    loop {
        if let Some(index) = reads.ask().await? {
            applied.wait_for(|a| *a >= index).await.map_err(|_| Error::Stopped)?;
            return Ok(());
        }
        waiters.retain(|w| !w.is_closed());
        if waiters.is_empty() {
            return Ok(());
        }
        lead::wait_a_moment().await;
    }
}

impl ReadIndex {
    /// Call it on the runtime of consensus.
    pub(crate) fn start(member_id: u64, raft: Raft, transport: Arc<dyn Transport>) -> Self {
        let (proofs, asked) = mpsc::unbounded_channel();
        tokio::spawn(provide(raft.clone(), asked));
        Self { member_id, raft, transport, proofs }
    }

    /// The index, or nothing if nobody could prove to be leader just now.
    async fn ask(&self) -> Result<Option<u64>, Error> {
        match lead::current(&self.raft) {
            Some(lead) if lead.leader == self.member_id => self.prove().await,
            Some(lead) => {
                let reply = tokio::time::timeout(ASK_LIMIT, self.transport.read_index(lead.leader)).await;
                Ok(reply.ok().and_then(Result::ok).and_then(|r| r.index))
            }
            None => Ok(None),
        }
    }

    /// The index, if this member leads and can prove it.
    pub(crate) async fn prove(&self) -> Proof {
        let (answer, proof) = oneshot::channel();
        self.proofs.send(answer).map_err(|_| Error::Stopped)?;
        proof.await.map_err(|_| Error::Stopped)?
    }
}
