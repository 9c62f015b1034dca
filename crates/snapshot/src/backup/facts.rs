//! What has to be known of a snapshot for its manifest: all of it is read for that, so a file that cannot be is never called a
//! backup.

use std::collections::BTreeMap;
use std::path::Path;

use keelson_api::mvccpb::KeyValue;
use prost::Message;

use super::record::ANCHORS;
use super::segment::fingerprint;
use crate::bolt::{Bucket, Database, ReadAt};
use crate::file::SnapshotFile;
use crate::restore::take;
use crate::schema::{KEY, META, RevisionKey, Taken};
use crate::{RowError, SnapshotError, Status, status};

/// What is in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// As `snapshot status` tells it.
    pub status: Status,
    /// The revision it is of.
    pub revision: i64,
    /// What its history begins with; −1 if nothing was compacted.
    pub compacted: i64,
    /// Fingerprints of the last transactions, as far as all of each is there.
    pub last_changes: Vec<String>,
}

/// Reads all of a snapshot, and compares its checksum.
pub(super) fn facts(path: &Path) -> Result<Facts, SnapshotError> {
    let file = SnapshotFile::open(path)?;
    file.check()?;
    let (database, buckets) = file.database()?;
    read(&database, &buckets).map_err(|e| e.of(path))
}

fn read<F: ReadAt + ?Sized>(database: &Database<'_, F>, buckets: &[Bucket]) -> Result<Facts, RowError> {
    let status = status::read(database, buckets)?;
    let mut taken = Taken::default();
    for bucket in buckets.iter().filter(|b| b.name == META.as_bytes()) {
        take(database, bucket, &mut taken)?;
    }
    let compacted = taken.compacted();
    let revision = status.revision.max(compacted).max(1);
    // Of what was compacted there is only what is still of use, but the newest transaction is always that.
    let first = compacted.saturating_add(1).max(revision - (ANCHORS - 1)).min(revision);
    let mut last: BTreeMap<i64, Vec<(bool, KeyValue)>> = BTreeMap::new();
    for bucket in buckets.iter().filter(|b| b.name == KEY.as_bytes()) {
        database.visit::<RowError>(bucket, |key, value| {
            // That they can be decoded has been seen above.
            if let (Some(at), Ok(kv)) = (RevisionKey::decode(key), KeyValue::decode(value))
                && at.main >= first
                && !kv.key.is_empty()
            {
                last.entry(at.main).or_default().push((at.is_delete, kv));
            }
            Ok(())
        })?;
    }
    let print = |changes: &Vec<(bool, KeyValue)>| fingerprint(changes.iter().map(|(is_delete, kv)| (*is_delete, kv)));
    // Where an earlier restore has moved revisions on, there are none in between.
    let mut last_changes: Vec<String> = (first..=revision).rev().map_while(|at| last.get(&at)).map(print).collect();
    last_changes.reverse();
    Ok(Facts { status, revision, compacted, last_changes })
}
