//! Whole state stores for members that lag too far behind. openraft is shown a "snapshot" that is
//! only a position; the files are made when one has to be sent, shared by all that need one, and
//! received while the receiver goes on: it takes its place when the member starts anew
//! (`server/peer/receive.rs`).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use keelson_api::keelson::peer;
use keelson_state::Position;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::blocking::off_thread;

/// Entries are kept for so long after a checkpoint was sent, so that its receiver can go on from it.
const GRACE: Duration = Duration::from_secs(30);
/// A checkpoint is not shared with receivers that come later than this.
const SHARED_FOR: Duration = Duration::from_secs(60);

/// A frozen copy of the state store; its files go when it is dropped.
pub struct Checkpoint {
    /// Names it among all checkpoints of all members.
    pub name: String,
    /// Where its files are.
    pub path: PathBuf,
    /// How far it goes.
    pub position: Position,
    /// What is in it.
    pub files: Vec<peer::SnapshotFile>,
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), error = %e, "a checkpoint could not be removed; the next start will");
        }
    }
}

/// Makes a checkpoint of the state as it is now. Takes its time: it runs off the async threads.
pub type MakeCheckpoint = Arc<dyn Fn() -> io::Result<Checkpoint> + Send + Sync>;

/// Checkpoints in use, and what must be kept for them.
pub(crate) struct Checkpoints {
    make: MakeCheckpoint,
    newest: Mutex<Option<(Instant, Arc<Checkpoint>)>>,
    making: tokio::sync::Mutex<()>,
    sending: AtomicUsize,
    start: Instant,
    /// Milliseconds since `start` at which the last one had been sent.
    sent: AtomicU64,
}

/// One transfer; entries above its checkpoint are kept while it lives, and for a while after.
pub(crate) struct Sending<'a>(&'a Checkpoints);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.sent.store(now, Ordering::Relaxed);
        self.0.sending.fetch_sub(1, Ordering::Release);
    }
}

impl Checkpoints {
    pub(crate) fn new(make: MakeCheckpoint) -> Self {
        Self {
            make,
            newest: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            sending: AtomicUsize::new(0),
            start: Instant::now(),
            sent: AtomicU64::new(0),
        }
    }

    pub(crate) fn send(&self) -> Sending<'_> {
        self.sending.fetch_add(1, Ordering::Acquire);
        Sending(self)
    }

    /// Whether entries have to be kept for a member that is receiving a checkpoint.
    pub(crate) fn hold_log(&self) -> bool {
        let sent = self.sent.load(Ordering::Relaxed);
        let since = self.start.elapsed().saturating_sub(Duration::from_millis(sent));
        self.sending.load(Ordering::Acquire) > 0 || (sent > 0 && since < GRACE)
    }

    /// A checkpoint at or after `index`: a recent one if there is one.
    pub(crate) async fn at_least(&self, index: u64) -> io::Result<Arc<Checkpoint>> {
        let _one_at_a_time = self.making.lock().await;
        let recent = self.newest.lock().clone();
        if let Some((made, checkpoint)) = recent
            && made.elapsed() < SHARED_FOR
            && checkpoint.position.index >= index
        {
            return Ok(checkpoint);
        }
        *self.newest.lock() = None;
        let make = self.make.clone();
        let made = off_thread(move || make()).await?;
        let made = Arc::new(made);
        *self.newest.lock() = Some((Instant::now(), made.clone()));
        Ok(made)
    }

    /// Lets go of a checkpoint that nobody has wanted for a while.
    pub(crate) fn forget_old(&self) {
        let mut newest = self.newest.lock();
        if newest.as_ref().is_some_and(|(made, c)| made.elapsed() >= SHARED_FOR && Arc::strong_count(c) == 1) {
            *newest = None;
        }
    }
}
