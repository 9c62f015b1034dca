//! Everything that is on disk: the raft log with its own thread and its own files, the state store as a
//! backend of `mvcc` (RocksDB, which nothing above knows), and the data directory they live in.

mod datadir;
pub mod failpoint;
mod incoming;
mod log;
mod state;

pub use datadir::{DataDir, DataDirError, Identity};
pub use incoming::{Arrived, Incoming, list_files};
pub use log::{LogBounds, LogError, LogStore, LogWaits, LogWrite, SyncObserver};
pub use state::{StateBackend, StateBatch, StateCursor, StateOptions};
