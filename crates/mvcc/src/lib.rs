//! Multi-version key-value store: revisions, ranges, history and compaction, written against a
//! [`Backend`] so that it runs on RocksDB and, in tests, on memory.
//!
//! There is one writer (the apply path) and any number of readers. Every read happens at one
//! revision, and the writer publishes a revision only after its rows are in the backend; the
//! in-memory index may run ahead of that, so readers treat it as a hint that they can verify.
//! Nothing here knows a clock, a socket or a random source.

mod backend;
mod compaction;
mod encode;
mod export;
mod hash;
mod import;
mod index;
mod key;
mod list;
mod memory;
mod pin;
mod read;
mod row;
mod store;
mod tree;
pub mod watch;
mod write;

pub use backend::{Backend, Cursor, GetError, ReadMode, StorageError, Table, WriteBatch};
pub use export::{Marks, Retained, Versions};
pub use hash::{HashResult, hash_rows};
pub use import::{Import, ImportError};
pub use index::KeyMeta;
pub use key::{KeyRange, prefix_end};
pub use list::{List, Outline};
pub use memory::MemoryBackend;
pub use read::{Query, Range, ReadError};
pub use row::Change;
pub use store::{CompactError, Store};
pub use write::{Event, EventKind, Writer};

/// How a step of background removal went.
pub use compaction::Progress as RemovalProgress;
