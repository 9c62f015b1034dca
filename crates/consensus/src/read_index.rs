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

async fn proof(raft: Raft) -> Proof {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(Some(linearizer.read_log_id().index())),
        Err(RaftError::APIError(_)) => Ok(None),
        Err(RaftError::Fatal(_)) => Err(Error::Stopped),
    }
}

/// Proves, for as long as somebody may ask, that this member leads. Each member asks once at a time.
async fn provide<P: Future<Output = Proof>>(
    mut prove: impl FnMut() -> P,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Proof>>,
) {
    let mut asking = Vec::new();
    while asked.recv_many(&mut asking, ROUND).await > 0 {
        let proof = prove().await;
        for answer in asking.drain(..) {
            // Who has gone away does not need it.
            let _ = answer.send(proof);
        }
    }
}

pub(crate) async fn run(reads: ReadIndex, applied: watch::Receiver<u64>, queue: mpsc::Receiver<Waiter>) {
    let ask = move || {
        let reads = reads.clone();
        async move { reads.ask().await }
    };
    serve(ask, applied, queue).await;
}

async fn serve<P: Future<Output = Proof>>(
    mut ask: impl FnMut() -> P,
    mut applied: watch::Receiver<u64>,
    mut queue: mpsc::Receiver<Waiter>,
) {
    let mut waiters = Vec::new();
    while queue.recv_many(&mut waiters, ROUND).await > 0 {
        let result = round(&mut ask, &mut applied, &mut waiters).await;
        for waiter in waiters.drain(..) {
            // A reader that no longer waits has timed out or gone away.
            let _ = waiter.send(result);
        }
    }
}

async fn round<P: Future<Output = Proof>>(
    ask: &mut impl FnMut() -> P,
    applied: &mut watch::Receiver<u64>,
    waiters: &mut Vec<Waiter>,
) -> Result<(), Error> {
    loop {
        if let Some(index) = ask().await? {
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
        let prover = raft.clone();
        tokio::spawn(provide(move || proof(prover.clone()), asked));
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Returns once so many rounds have begun.
    async fn begun(rounds: &AtomicU64, number: u64) {
        while rounds.load(Ordering::Relaxed) < number {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn reads_that_wait_share_a_round_and_later_ones_wait_for_the_next() {
        let rounds = Arc::new(AtomicU64::new(0));
        let (let_end, may_end) = watch::channel(0);
        let counted = rounds.clone();
        let ask = move || {
            let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
            let mut may_end = may_end.clone();
            async move {
                may_end.wait_for(|ended| *ended >= number).await.map_err(|_| Error::Stopped)?;
                Ok::<_, Error>(Some(10 * number))
            }
        };
        let (apply, applied) = watch::channel(10);
        let (reads, queue) = mpsc::channel(1000);
        let read = || {
            let (waiter, result) = oneshot::channel();
            reads.try_send(waiter).unwrap();
            result
        };
        let first: Vec<_> = (0..100).map(|_| read()).collect();
        let serving = tokio::spawn(serve(ask, applied, queue));
        begun(&rounds, 1).await;
        let mut later: Vec<_> = (0..100).map(|_| read()).collect();
        let_end.send_replace(1);
        for result in first {
            assert_eq!(result.await, Ok(Ok(())));
        }
        begun(&rounds, 2).await;
        let last = read();
        let_end.send_replace(2);
        // The round holds another receiver while it waits to end.
        while let_end.receiver_count() > 1 {
            tokio::task::yield_now().await;
        }
        assert!(later.iter_mut().all(|result| result.try_recv().is_err()), "what the second round found is not applied yet");
        apply.send_replace(20);
        for result in later {
            assert_eq!(result.await, Ok(Ok(())));
        }
        let_end.send_replace(3);
        apply.send_replace(30);
        assert_eq!(last.await, Ok(Ok(())));
        assert_eq!(rounds.load(Ordering::Relaxed), 3);
        drop(reads);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn members_that_ask_at_the_same_time_share_a_proof() {
        let (proofs, asked) = mpsc::unbounded_channel();
        let ask = |_| {
            let (answer, proof) = oneshot::channel();
            proofs.send(answer).unwrap();
            proof
        };
        let answers: Vec<_> = (0..5).map(ask).collect();
        drop(proofs);
        let mut rounds = 0;
        let prove = || {
            rounds += 1;
            async { Ok::<_, Error>(Some(7)) }
        };
        provide(prove, asked).await;
        assert_eq!(rounds, 1);
        for answer in answers {
            assert_eq!(answer.await, Ok(Ok(Some(7))));
        }
    }
}
