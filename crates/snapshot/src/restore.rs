//! Makes a data directory of a snapshot: that of a member of a new cluster, which begins with what the snapshot has. The
//! directory cannot be used before all of it is on disk; one that was not finished can be restored to again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use keelson_api::Revision;
use keelson_api::mvccpb::KeyValue;
use keelson_consensus::begin_with_state;
use keelson_mvcc::{Backend, Import, Marks};
use keelson_state::Surroundings;
use keelson_storage::{DataDir, Identity, LogStore, StateBackend, StateOptions};
use prost::Message;

use crate::bolt::{Bucket, Database, ReadAt};
use crate::cluster::NewMember;
use crate::file::SnapshotFile;
use crate::replay::{Replay, compare};
use crate::schema::{KEY, RevisionKey, Taken};
use crate::{RowError, SnapshotError};

/// No store gets here; beyond it revisions could not be counted on.
const FARTHEST_BUMP: u64 = i64::MAX as u64 / 4;

/// What to restore, and who the restored member is. The defaults are etcdutl's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// Where to; `NAME.etcd` if it is not named.
    pub data_dir: Option<PathBuf>,
    /// Where the log is to be, if not there.
    pub wal_dir: Option<PathBuf>,
    /// Name of the member.
    pub name: String,
    /// Members of the new cluster, as `NAME=URL,…`.
    pub initial_cluster: String,
    /// Tells the new cluster from others with the same members.
    pub initial_cluster_token: String,
    /// This member's peer URLs.
    pub initial_advertise_peer_urls: String,
    /// How far revisions are moved on, so that none that was seen after the snapshot comes again.
    pub bump_revision: u64,
    /// The newest revision counts as compacted: watches from before it are told so. Goes together with the former.
    pub mark_compacted: bool,
    /// The snapshot was copied from a data directory, and has no checksum.
    pub skip_hash_check: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            snapshot: PathBuf::new(),
            data_dir: None,
            wal_dir: None,
            name: "default".into(),
            initial_cluster: "default=http://localhost:2380".into(),
            initial_cluster_token: "etcd-cluster".into(),
            initial_advertise_peer_urls: "http://localhost:2380".into(),
            bump_revision: 0,
            mark_compacted: false,
            skip_hash_check: false,
        }
    }
}

/// What has been restored.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// Where it is.
    pub data_dir: PathBuf,
    /// Who it is.
    pub member: NewMember,
    /// Its newest revision.
    pub revision: i64,
    /// Its compacted revision; −1 for none.
    pub compacted: i64,
    /// Changes that were taken over.
    pub changes: u64,
    /// Sums of all keys that it was held against.
    pub compared: usize,
}

impl RestoreOptions {
    fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| format!("{}.etcd", self.name).into())
    }
}

/// Refuses what would not be restored to, before anything is fetched for that.
pub fn expect_free(options: &RestoreOptions) -> Result<PathBuf, SnapshotError> {
    check(options)?;
    let data_dir = options.data_dir();
    DataDir::expect_free(&data_dir)?;
    Ok(data_dir)
}

/// Restores a snapshot. Takes long, and blocks.
pub fn restore(options: &RestoreOptions) -> Result<Restored, SnapshotError> {
    restore_with(options, &Replay::default())
}

fn check(options: &RestoreOptions) -> Result<NewMember, SnapshotError> {
    if options.mark_compacted != (options.bump_revision > 0) {
        return Err(SnapshotError::Options("--mark-compacted required if --revision-bump > 0".into()));
    }
    if options.bump_revision > FARTHEST_BUMP {
        return Err(SnapshotError::Options(format!("--bump-revision is too large: it may be up to {FARTHEST_BUMP}")));
    }
    let RestoreOptions { name, initial_cluster, initial_cluster_token: token, initial_advertise_peer_urls: urls, .. } = options;
    NewMember::new(name, initial_cluster, token, urls).map_err(SnapshotError::Options)
}

/// Restores a snapshot, and what happened after it.
pub fn restore_with(options: &RestoreOptions, replay: &Replay) -> Result<Restored, SnapshotError> {
    let member = check(options)?;
    let data_dir = options.data_dir();
    // Before the file is read to its end, which may take long.
    DataDir::expect_free(&data_dir)?;
    let file = SnapshotFile::open(&options.snapshot)?;
    if !options.skip_hash_check {
        file.check()?;
    }
    let (database, buckets) = file.database()?;
    let mut taken = Taken::default();
    for bucket in buckets.iter().filter(|b| b.name != KEY.as_bytes()) {
        take(&database, bucket, &mut taken).map_err(|e| e.of(file.path()))?;
    }

    let dir = DataDir::begin_restore(&data_dir)?;
    if let Some(folder) = &options.wal_dir {
        dir.place_log(folder)?;
    }
    let position = {
        let log = LogStore::open(&dir.log(), true, Arc::new(|_| {}))?;
        let voters: BTreeSet<u64> = member.members.iter().map(|m| m.id).collect();
        begin_with_state(&log, &voters).map_err(|e| SnapshotError::Write(e.to_string()))?
    };
    let backend = StateBackend::open(&dir.state(), &StateOptions::default())?;
    let (compacted, bump) = (taken.compacted(), options.bump_revision);
    let Taken { leases, alarms, auth, .. } = taken;
    let members = member.members.clone();
    let around = Surroundings { position, leases, alarms, auth, members, ..Surroundings::default() };
    let filled = fill(&backend, &database, &buckets, compacted, bump, around, replay).map_err(|e| e.of(file.path()));
    let flushed = filled.and_then(|filled| Ok(backend.flush().map(|()| filled)?));
    let compared = flushed.and_then(|(marks, changes)| {
        // etcd's sums are others.
        let hashes = if database.is_keelsons() { replay.hashes.as_slice() } else { &[] };
        let ended = marks.revision - i64::try_from(bump).unwrap_or_default();
        Ok((marks, changes, compare(&backend, hashes, compacted, ended)?))
    });
    backend.close();
    drop(backend);
    let (marks, changes, compared) = compared?;
    let uuid = format!("{:032x}", rand::random::<u128>());
    dir.finish_restore(&Identity::new(uuid, member.cluster_id, member.member_id))?;
    tracing::info!(data_dir = %data_dir.display(), revision = marks.revision, changes, "a snapshot has been restored");
    Ok(Restored { data_dir, member, revision: marks.revision, compacted: marks.compacted, changes, compared })
}

/// Takes what lies beside the keys.
pub fn take<F: ReadAt + ?Sized>(database: &Database<'_, F>, bucket: &Bucket, taken: &mut Taken) -> Result<(), RowError> {
    let name = String::from_utf8_lossy(&bucket.name);
    database.visit(bucket, |key, value| {
        let unknown = || RowError::Damaged(format!("row {} of bucket {name} cannot be decoded", key.escape_ascii()));
        taken.take(&name, key, value).ok_or_else(unknown)
    })
}

/// Fills the state; answers where it stands, and how many changes there were.
pub fn fill<B: Backend, F: ReadAt + ?Sized>(
    backend: &B,
    database: &Database<'_, F>,
    buckets: &[Bucket],
    compacted: i64,
    bump: u64,
    mut around: Surroundings,
    replay: &Replay,
) -> Result<(Marks, u64), RowError> {
    let mut import = Import::new(backend, compacted);
    let mut changes = 0;
    // A revision that was only moved on to, by an earlier restore, has a row without a key.
    let mut moved_to = 1;
    for bucket in buckets.iter().filter(|b| b.name == KEY.as_bytes()) {
        database.visit::<RowError>(bucket, |key, value| {
            let damaged = || RowError::Damaged(format!("the change at {} cannot be decoded", key.escape_ascii()));
            let at = RevisionKey::decode(key).ok_or_else(damaged)?;
            let kv = KeyValue::decode(value).map_err(|_| damaged())?;
            if kv.key.is_empty() {
                moved_to = at.main.max(moved_to);
                return Ok(());
            }
            changes += 1;
            let revision = Revision::new(at.main, u32::try_from(at.sub).map_err(|_| damaged())?);
            let imported = if at.is_delete { import.delete(revision, &kv.key) } else { import.put(revision, &kv) };
            Ok(imported?)
        })?;
    }
    let found = import.revision().max(moved_to).max(compacted);
    let (found, replayed) = replay.run(&mut import, found, &mut around.leases)?;
    let moved = i64::try_from(bump).ok().and_then(|bump| found.checked_add(bump));
    let Some(revision) = moved.filter(|moved| *moved <= i64::MAX / 2) else {
        return Err(RowError::Damaged(format!("no store gets to revision {found}")));
    };
    let marks = Marks { revision, compacted: if bump > 0 { revision } else { compacted } };
    import.finish(marks, |batch| around.write(batch))?;
    Ok((marks, changes + replayed))
}
