//! Who waits for what in the log. A batch is answered where it was proposed, when it is applied there,
//! whichever member led: so that who wrote through a follower also reads there what it wrote.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use keelson_api::Error;
use keelson_state::Reply;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::types::Batch;

pub(crate) type Answer = oneshot::Sender<Result<Reply, Error>>;
/// What the commands of one batch answered, in order.
pub(crate) type Replies = Vec<Result<Reply, Error>>;

/// Names a batch for ever: the run of the process that proposed it, and a number within that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchId {
    pub(crate) run: u64,
    pub(crate) number: u64,
}

/// Those who wait for one batch.
pub(crate) struct Waiting {
    pub(crate) answers: Vec<Answer>,
    /// Its place among the batches that may be on their way.
    _room: OwnedSemaphorePermit,
}

impl Waiting {
    pub(crate) const fn new(answers: Vec<Answer>, room: OwnedSemaphorePermit) -> Self {
        Self { answers, _room: room }
    }

    /// Whether somebody still wants to know.
    pub(crate) fn is_wanted(&self) -> bool {
        self.answers.iter().any(|a| !a.is_closed())
    }

    // One that no longer waits has timed out or gone away.

    pub(crate) fn answer(self, replies: Replies) {
        for (answer, reply) in self.answers.into_iter().zip(replies) {
            let _ = answer.send(reply);
        }
    }

    pub(crate) fn fail(self, error: Error) {
        for answer in self.answers {
            let _ = answer.send(Err(error));
        }
    }
}

/// A batch on its way to the log. No more are made than there is room for, so queues of them are bounded.
pub(crate) struct Sealed {
    pub(crate) id: BatchId,
    /// Kept here, and nowhere else, for as long as somebody waits: it may have to be sent again.
    pub(crate) payload: Batch,
    pub(crate) waiting: Waiting,
}

struct Submitted {
    /// Term of the leader it was given to: in a log of another term it cannot appear.
    term: u64,
    batch: Sealed,
}

/// Batches of this member that are in the log, or may be.
pub(crate) struct Pending {
    run: u64,
    next: AtomicU64,
    submitted: Mutex<BTreeMap<u64, Submitted>>,
}

impl Pending {
    /// `run` must differ between runs of all members' processes.
    pub(crate) fn new(run: u64) -> Self {
        Self { run, next: AtomicU64::new(0), submitted: Mutex::default() }
    }

    pub(crate) fn name(&self) -> BatchId {
        BatchId { run: self.run, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// Notes that a batch is about to be given to the leader of `term`.
    pub(crate) fn submit(&self, term: u64, batch: Sealed) {
        self.submitted.lock().insert(batch.id.number, Submitted { term, batch });
    }

    /// Lets go of those whose fate did not become known, and that nobody waits for any more: it makes room.
    pub(crate) fn forget_unwanted(&self) {
        self.submitted.lock().retain(|_, s| s.batch.waiting.is_wanted());
    }

    /// Takes back a batch: it was applied, or is proven not to be in the log.
    pub(crate) fn take(&self, id: BatchId) -> Option<Sealed> {
        if id.run != self.run {
            return None;
        }
        self.submitted.lock().remove(&id.number).map(|s| s.batch)
    }

    /// Fails what an older leader was given and can no longer put in the log, now that the log has an
    /// entry of `term`.
    pub(crate) fn term_began(&self, term: u64) {
        let lost: Vec<u64> = self.submitted.lock().iter().filter(|(_, s)| s.term < term).map(|(n, _)| *n).collect();
        for number in lost {
            if let Some(batch) = self.take(BatchId { run: self.run, number }) {
                batch.waiting.fail(Error::LeaderChanged);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn batch(id: BatchId) -> (Sealed, oneshot::Receiver<Result<Reply, Error>>) {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (answer, reply) = oneshot::channel();
        (Sealed { id, payload: Batch(vec![b'x'; 8].into()), waiting: Waiting::new(vec![answer], room) }, reply)
    }

    #[test]
    fn a_batch_is_answered_once_by_its_own_run_or_fails_with_its_term() {
        let pending = Pending::new(7);
        let (a, b) = (pending.name(), pending.name());
        let ((first, mut first_reply), (second, mut second_reply)) = (batch(a), batch(b));
        pending.submit(1, first);
        pending.submit(2, second);
        assert!(pending.take(BatchId { run: 8, ..a }).is_none());
        pending.term_began(2);
        assert!(matches!(first_reply.try_recv(), Ok(Err(Error::LeaderChanged))));
        assert!(second_reply.try_recv().is_err());
        pending.take(b).unwrap().waiting.answer(vec![Ok(Reply::Done)]);
        assert!(matches!(second_reply.try_recv(), Ok(Ok(Reply::Done))));
        assert!(pending.take(b).is_none() && pending.take(a).is_none());
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_kept() {
        let pending = Pending::new(7);
        let (given_up, reply) = batch(pending.name());
        let (id, payload) = (given_up.id, given_up.payload.0.clone());
        pending.submit(1, given_up);
        assert!(!payload.is_unique());
        let (wanted, _waits) = batch(pending.name());
        let wanted_id = wanted.id;
        pending.submit(1, wanted);
        drop(reply);
        pending.forget_unwanted();
        assert!(payload.is_unique() && pending.take(id).is_none());
        assert!(pending.take(wanted_id).is_some());
    }
}
