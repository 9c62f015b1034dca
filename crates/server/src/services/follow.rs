//! What becomes of a few keys from some revision on, for services that wait for it.

use std::sync::Arc;

use keelson_api::Error;
use keelson_mvcc::watch::{Replay, Subscription};
use keelson_mvcc::{Event, KeyRange};
use keelson_storage::StateBackend;
use tokio::sync::Notify;

use super::watch_stream::ReadyWake;
use crate::member::{Member, read_error};

/// Transactions fetched at once.
const FETCH: usize = 100;
/// The one watcher of the subscription.
const WATCHER: i64 = 0;

/// Follows a range of keys.
pub struct Follower {
    member: Arc<Member>,
    subscription: Subscription<StateBackend>,
    ready: Arc<Notify>,
    range: KeyRange,
    /// Next revision that was not looked at.
    cursor: i64,
}

impl Follower {
    /// Follows `range` from the revision `from` on.
    pub fn new(member: &Arc<Member>, range: KeyRange, from: i64) -> Self {
        let ready = Arc::new(Notify::new());
        let mut subscription = member.hub.subscribe(ReadyWake(ready.clone()));
        subscription.add(WATCHER, range.clone(), from);
        Self { member: member.clone(), subscription, ready, range, cursor: from }
    }

    /// Waits for the next events; whole revisions, in order.
    pub async fn next(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            while let Some((_, marked)) = self.subscription.take_ready() {
                let events = self.fetch(self.cursor.max(marked)).await?;
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            self.ready.notified().await;
        }
    }

    async fn fetch(&mut self, from: i64) -> Result<Vec<Event>, Error> {
        let replay = match self.member.hub.replay(from, FETCH) {
            Replay::OutsideRing => {
                let (hub, range) = (self.member.hub.clone(), self.range.clone());
                let history = tokio::task::spawn_blocking(move || hub.replay_history(&range, from, FETCH)).await;
                history.map_err(|_| Error::Stopped)?.map_err(read_error)?
            }
            inside => inside,
        };
        let Replay::Transactions { transactions, next, more } = replay else { return Err(Error::Storage) };
        self.cursor = self.cursor.max(next);
        if more {
            self.subscription.mark(WATCHER, next);
        }
        let events = transactions.iter().flat_map(|t| &t.events).map(|e| &e.event);
        Ok(events.filter(|e| self.range.contains(&e.kv.key)).cloned().collect())
    }
}
