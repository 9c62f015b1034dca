//! openraft's view of the state machine: it applies entries that are on this member's disk, and reports a
//! "snapshot" that is simply the state store as far as it has been flushed, so that the log below
//! it can be purged.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use keelson_state::Position;
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::apply::{Apply, Run};
use crate::codec;
use crate::types::{RaftLogId, RaftStoredMembership, Types};

/// Entries are applied in runs of about so many bytes.
const RUN_BYTES: usize = 8 << 20;

/// Reads the position up to which the state store is on disk.
pub(crate) type FlushedPosition = Arc<dyn Fn() -> io::Result<Position> + Send + Sync>;

/// Stands for the state in openraft's hands; the files are made when it is sent (`snapshot.rs`).
#[derive(Debug)]
pub(crate) struct StateSnapshot;

pub(crate) struct StateMachine {
    applier: Mutex<Box<dyn Apply>>,
    durable: watch::Receiver<u64>,
    position: Position,
    flushed: FlushedPosition,
    reported: Arc<Mutex<Position>>,
}

impl StateMachine {
    pub(crate) fn new(
        applier: Box<dyn Apply>,
        durable: watch::Receiver<u64>,
        position: Position,
        flushed: FlushedPosition,
    ) -> Self {
        let reported = Arc::new(Mutex::new(position.clone()));
        Self { applier: Mutex::new(applier), durable, position, flushed, reported }
    }
}

impl StateMachine {
    async fn apply_run(&mut self, entries: Run) -> io::Result<()> {
        let Some(last) = entries.last().map(|(entry, _)| entry.log_id.index) else { return Ok(()) };
        // A commit by the others' disks is not enough: this member's own log must replay what it applies.
        self.durable.wait_for(|d| *d >= last).await.map_err(io::Error::other)?;
        self.applier.get_mut().apply(entries)
    }
}

fn meta(position: &Position) -> io::Result<SnapshotMetaOf<Types>> {
    let (last_log_id, last_membership) = codec::from_position(position)?;
    Ok(SnapshotMetaOf::<Types> { last_log_id, last_membership })
}

/// Reports the flushed state.
pub(crate) struct FlushedState {
    flushed: FlushedPosition,
    reported: Arc<Mutex<Position>>,
}

impl RaftSnapshotBuilder<Types> for FlushedState {
    type SnapshotData = StateSnapshot;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, StateSnapshot>, io::Error> {
        let position = (self.flushed)()?;
        let snapshot = Snapshot { meta: meta(&position)?, snapshot: StateSnapshot };
        *self.reported.lock() = position;
        Ok(snapshot)
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = StateSnapshot;
    type SnapshotBuilder = FlushedState;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, RaftStoredMembership), io::Error> {
        codec::from_position(&self.position)
    }

    async fn apply<S>(&mut self, mut stream: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = stream.next().await {
            let entry = entry?;
            bytes += codec::weight(&entry.0);
            entries.push(entry);
            if bytes > RUN_BYTES {
                bytes = 0;
                self.apply_run(std::mem::take(&mut entries)).await?;
            }
        }
        self.apply_run(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> FlushedState {
        FlushedState { flushed: self.flushed.clone(), reported: self.reported.clone() }
    }

    async fn install_snapshot(&mut self, _: &SnapshotMetaOf<Types>, _: StateSnapshot) -> Result<(), io::Error> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a checkpoint takes its place when the member starts, and never while it runs",
        ))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, StateSnapshot>>, io::Error> {
        let position = self.reported.lock().clone();
        if position.index == 0 {
            return Ok(None);
        }
        Ok(Some(Snapshot { meta: meta(&position)?, snapshot: StateSnapshot }))
    }
}
