//! A client that watches over all restarts: after each it goes on behind the last revision it has
//! seen, and in the end must have seen everything exactly once.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::clients::{Clients, Stop};
use super::ledger::{Ledger, Replayed};
use super::replay::{Replay, Span};
use crate::wait;

const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Seen {
    last: i64,
    changes: Replayed,
    broken: Option<String>,
}

#[derive(Debug)]
pub struct Follower {
    span: Span,
    /// Everything up to here was compared with the ledger.
    checked: i64,
    seen: Arc<Mutex<Seen>>,
    task: Option<JoinHandle<()>>,
}

impl Follower {
    pub fn new(span: Span) -> Self {
        Self { span, checked: 1, seen: Arc::default(), task: None }
    }

    /// Goes on where it was when the server died.
    pub fn resume(&mut self, clients: &Clients) {
        self.stop();
        let mut clients = clients.clone();
        let (span, seen, checked) = (self.span.clone(), self.seen.clone(), self.checked);
        self.task = Some(tokio::spawn(async move {
            let last = seen.lock().last.max(checked);
            if let Err(Stop::Broken(broken)) = watch(&mut clients, &span, last, &seen).await {
                seen.lock().broken = Some(broken);
            }
        }));
    }

    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Newest revision it was told of.
    pub fn newest(&self) -> i64 {
        self.seen.lock().last
    }

    /// Waits until it has seen all that the ledger knows, compares, and says how many revisions it was told of.
    pub async fn check(&mut self, ledger: &Ledger) -> Result<usize, Stop> {
        let expected: Replayed = ledger
            .after(self.checked)
            .map(|(revision, changes)| (revision, self.span.of(changes)))
            .filter(|(_, changes)| !changes.is_empty())
            .collect();
        let target = expected.keys().next_back().copied().unwrap_or(0);
        let ended = || self.task.as_ref().is_none_or(JoinHandle::is_finished);
        let caught_up =
            wait::until("a resumed watch has caught up", CATCH_UP_LIMIT, async || Ok(self.newest() >= target || ended()));
        caught_up.await.map_err(|e| Stop::Broken(format!("{e}; it is at {}, not at {target}", self.newest())))?;
        let mut seen = self.seen.lock();
        if let Some(broken) = seen.broken.take() {
            return Err(Stop::Broken(broken));
        }
        if seen.last < target {
            return Err(Stop::Silent("a watch ended before it had caught up".into()));
        }
        let differs = |revision: &&i64| expected.get(revision) != seen.changes.get(revision);
        if let Some(revision) = expected.keys().chain(seen.changes.keys()).find(differs) {
            return Err(Stop::Broken(format!(
                "revision {revision}: a watch was told {:?}, not {:?}",
                seen.changes.get(revision),
                expected.get(revision)
            )));
        }
        seen.changes.clear();
        self.checked = ledger.newest();
        Ok(expected.len())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn watch(clients: &mut Clients, span: &Span, last: i64, seen: &Mutex<Seen>) -> Result<(), Stop> {
    let mut replay = Replay::open(clients, span, last).await?;
    loop {
        let revisions = replay.next().await?;
        let mut seen = seen.lock();
        seen.last = revisions.last().map_or(seen.last, |(last, _)| *last);
        seen.changes.extend(revisions);
    }
}
