//! RocksDB, and nothing above it knows that it is RocksDB: the raft log store with its own thread
//! and its own instance, the state store as a backend of `mvcc`, and the data directory they live in.

mod datadir;
pub mod failpoint;
mod incoming;
mod log;
mod log_thread;
mod state;

pub use datadir::{DataDir, DataDirError, Identity};
pub use incoming::{Arrived, Incoming, list_files};
pub use log::{LogBounds, LogError, LogStore, SyncObserver};
pub use log_thread::LogWaits;
pub use state::{StateBackend, StateBatch, StateCursor, StateOptions};
