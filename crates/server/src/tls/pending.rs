//! Handshakes that are not finished. When there is no room for one more connection, the oldest of them has to go: a
//! client that means it needs milliseconds, so those that never finish do not keep others out.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

#[derive(Default)]
struct List {
    next: u64,
    by_age: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The handshakes of one listener.
#[derive(Clone, Default)]
pub struct Pending(Arc<Mutex<List>>);

/// One handshake; it leaves the list when this is dropped.
pub struct Turn {
    pending: Pending,
    number: u64,
    over: oneshot::Receiver<()>,
}

impl Pending {
    /// Begins a handshake.
    pub fn begin(&self) -> Turn {
        let (sender, over) = oneshot::channel();
        let mut list = self.0.lock();
        let number = list.next;
        list.next += 1;
        list.by_age.insert(number, sender);
        Turn { pending: self.clone(), number, over }
    }

    /// Ends the oldest.
    pub fn end_oldest(&self) {
        // Its turn sees that the other end is gone.
        drop(self.0.lock().by_age.pop_first());
    }
}

impl Turn {
    /// Done when the handshake has to make room.
    pub async fn over(&mut self) {
        let _ = (&mut self.over).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pending.0.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_unfinished_handshake_makes_room() {
        let pending = Pending::default();
        let (finished, mut old, mut new) = (pending.begin(), pending.begin(), pending.begin());
        drop(finished);
        pending.end_oldest();
        old.over().await;
        let still = std::time::Duration::from_millis(10);
        assert!(tokio::time::timeout(still, new.over()).await.is_err());
        drop((old, new));
        assert!(pending.0.lock().by_age.is_empty());
    }
}
