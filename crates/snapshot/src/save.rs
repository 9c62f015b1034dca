//! Makes a file of a state, in two passes. The first reads the state, at one moment, and puts its versions in the order
//! that the file has them in; after it the length of the file is known, and the state is let go of: however long the
//! file takes to be sent, nothing is kept for it. The second writes the file from its beginning to its end.

use std::io::{self, Write};
use std::path::Path;

use keelson_mvcc::{Backend, ReadError, StorageError};
use keelson_state::{Frozen, Shared};

use crate::bolt::{Extent, PAGE, Writer};
use crate::schema::{KEY, RevisionKey, Rows, rows_beside_keys};
use crate::sort::{Sorted, Sorter};

/// Bytes of the state that are read at once.
const PIECE: usize = 8 << 20;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SaveError {
    #[error("{0}")]
    State(#[from] ReadError),
    #[error("the changes cannot be put in order: {0}")]
    Io(#[from] io::Error),
    #[error("there is no room in the data directory to put the changes in order")]
    NoRoom,
    #[error("a user or a role has a name of more than 32768 bytes, which no snapshot can hold")]
    LongName,
    #[error("nobody wants it any more")]
    Unwanted,
}

impl From<StorageError> for SaveError {
    fn from(e: StorageError) -> Self {
        Self::State(e.into())
    }
}

/// What the first pass is about to do, for somebody who may stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Read on.
    On,
    /// Write so many bytes to the folder for temporary files.
    Spool(usize),
}

/// A file that only has to be written.
pub struct Prepared {
    /// The revision that it is of.
    pub revision: i64,
    pages: u64,
    keys: Sorted,
    others: Vec<(&'static str, Rows)>,
}

/// The first pass. `folder` is where what does not fit into memory is put for a while; `go_on` is asked before each step.
/// Takes long and reads the disk: call it off the async threads.
pub fn prepare<B: Backend>(
    state: &Shared<B>,
    storage_version: &str,
    folder: &Path,
    mut go_on: impl FnMut(Reading) -> Result<(), SaveError>,
) -> Result<Prepared, SaveError> {
    let Frozen { marks, around, mut versions } = state.freeze()?;
    let others = rows_beside_keys(&marks, &around, storage_version);
    let mut sorter = Sorter::new(folder.to_owned());
    let mut keys = Extent::default();
    let mut more = true;
    while more {
        go_on(Reading::On)?;
        more = versions.next_piece::<SaveError>(PIECE, |at, is_delete, kv| {
            keys.add(RevisionKey::len(is_delete), kv.len());
            sorter.add((at.main, at.sub, is_delete), kv, |bytes| go_on(Reading::Spool(bytes)))
        })?;
    }
    drop(versions);
    let extents = others.iter().map(|(_, rows)| {
        let mut extent = Extent::default();
        rows.iter().for_each(|(key, value)| extent.add(key.len(), value.len()));
        extent
    });
    let extents: Vec<Extent> = extents.chain([keys]).collect();
    if !extents.iter().all(Extent::fits) {
        return Err(SaveError::LongName);
    }
    let pages = Extent::file_pages(&extents);
    Ok(Prepared { revision: marks.revision, pages, keys: sorter.finish()?, others })
}

impl Prepared {
    /// Bytes of the file, without a checksum.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.pages * PAGE as u64
    }

    /// The second pass.
    pub fn write<W: Write>(mut self, out: W) -> io::Result<W> {
        let mut writer = Writer::begin(out, self.pages)?;
        for (bucket, rows) in &self.others {
            let mut tree = writer.bucket(bucket);
            rows.iter().try_for_each(|(key, value)| tree.add(key, value))?;
            tree.finish()?;
        }
        let mut tree = writer.bucket(KEY);
        while let Some(change) = self.keys.next_change()? {
            let key = RevisionKey { main: change.main, sub: change.sub.into(), is_delete: change.is_delete };
            tree.add(&key.encode(), &change.kv)?;
        }
        tree.finish()?;
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
    use keelson_api::keelson::command::Action;
    use keelson_api::keelson::{Command, LeaseGrant};
    use keelson_api::mvccpb::KeyValue;
    use keelson_mvcc::MemoryBackend;
    use keelson_state::{Machine, Position};
    use prost::Message;

    use super::*;
    use crate::bolt::{Database, ReadError as FileError};

    fn apply(machine: &mut Machine<MemoryBackend>, action: Action) {
        machine.apply(&Command { action: Some(action), ..Command::default() }, 1, 1).unwrap().unwrap();
    }

    fn put(key: &str, value: usize) -> Action {
        Action::Put(PutRequest { key: key.to_owned().into(), value: vec![b'v'; value].into(), ..PutRequest::default() })
    }

    #[test]
    fn a_file_has_every_change_since_the_compaction_in_the_order_of_revisions() {
        let (mut machine, _) = Machine::open(MemoryBackend::default()).unwrap();
        apply(&mut machine, Action::LeaseGrant(LeaseGrant { id: 5, ttl: 60 }));
        for i in 0..20 {
            apply(&mut machine, put(&format!("k{}", i % 3), 10_000 * i));
        }
        apply(&mut machine, Action::Compact(CompactionRequest { revision: 15, physical: false }));
        apply(&mut machine, Action::DeleteRange(DeleteRangeRequest { key: "k1".into(), ..DeleteRangeRequest::default() }));
        machine.commit(&Position { term: 2, index: 9, membership: None }).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let mut steps = Vec::new();
        let prepared = prepare(machine.shared(), "3.7.0", folder.path(), |step| {
            steps.push(step);
            Ok(())
        })
        .unwrap();
        assert_eq!(steps, [Reading::On]);
        assert_eq!(prepared.revision, 22);
        let size = prepared.size();
        let file = prepared.write(Vec::new()).unwrap();
        assert_eq!(file.len() as u64, size);

        let database = Database::open(file.as_slice()).unwrap();
        let buckets = database.buckets().unwrap();
        let names: Vec<_> = buckets.iter().map(|b| String::from_utf8_lossy(&b.name).into_owned()).collect();
        assert_eq!(names, crate::schema::BUCKETS);
        let keys = buckets.iter().find(|b| b.name == KEY.as_bytes()).unwrap();
        let mut found = Vec::new();
        database
            .visit::<FileError>(keys, |key, value| {
                let key = RevisionKey::decode(key).unwrap();
                found.push((key.main, key.is_delete, KeyValue::decode(value).unwrap().value.len()));
                Ok(())
            })
            .unwrap();
        // At 15 the newest versions of the three keys are those of 13 to 15.
        let puts = (13..=21).map(|revision| (revision, false, 10_000 * usize::try_from(revision - 2).unwrap()));
        assert_eq!(found, puts.chain([(22, true, 0)]).collect::<Vec<_>>());
    }

    #[test]
    fn it_can_be_stopped() {
        let (machine, _) = Machine::open(MemoryBackend::default()).unwrap();
        let stopped = prepare(machine.shared(), "3.7.0", Path::new("/"), |_| Err(SaveError::Unwanted));
        assert!(matches!(stopped, Err(SaveError::Unwanted)));
    }
}
