//! `backup`: snapshots and logs of changes in an object store, from which `restore` makes data directories.

mod create;
mod delete;
mod list;
mod make;
mod run;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use keelson_api::Error;
use keelson_snapshot::backup::{Access, Backup, BackupError, Catalog, Keep, Manifest, State, Store};

use crate::cli::{Call, Command, Flag, Group, Kind};
use crate::exit::{BAD_ARGS, Failure};
use crate::output::BackupRow;

pub static COMMAND: Command = Command::new("backup", "<subcommand>", "Keeps backups of a cluster in an object store")
    .long(
        "Keeps backups of a cluster in an object store. A store is s3://BUCKET/PREFIX (also of others who speak S3), \
         gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or the path of a folder. Credentials and settings are read from the usual \
         environment variables (AWS_..., GOOGLE_..., AZURE_...) and from --store-option.\n\n\
         \"keelsonctl restore\" makes data directories of backups.",
    )
    .group(Group::Maintenance)
    .commands(COMMANDS);

const COMMANDS: &[&Command] = &[&create::COMMAND, &delete::COMMAND, &list::COMMAND, &run::COMMAND, &verify::COMMAND];

pub(super) const OPTION: Flag =
    Flag::new(Kind::List, "store-option", "", "setting of the store, as NAME=VALUE, such as endpoint=https://host:9000");
pub(super) const AUTHORITIES: Flag =
    Flag::text("store-cacert", "", "file of further authorities that may sign the certificate of the store");
pub(super) const FOLDER: Flag =
    Flag::text("folder", "", "where to keep what is on its way, with room for all keys (the folder for temporary files)");
const KEEP: Flag = Flag::new(Kind::Uint, "keep", "0", "how many of the newest backups to keep");
const KEEP_FOR: Flag =
    Flag::new(Kind::Duration, "keep-for", "0", "keep also what reaches into this time before the newest backup, such as 168h");

/// The store that an argument names.
pub(super) fn store(call: &Call, at: usize) -> Result<Store, Failure> {
    let authorities = Some(call.flags.text("store-cacert")).filter(|file| !file.is_empty()).map(PathBuf::from);
    let access = Access { options: call.flags.list("store-option"), authorities };
    Store::open(&call.word(at), &access).map_err(failed)
}

/// Where to keep what is on its way.
fn folder(call: &Call) -> PathBuf {
    match call.flags.text("folder") {
        "" => std::env::temp_dir(),
        folder => folder.into(),
    }
}

pub(super) fn failed(e: BackupError) -> Failure {
    match e {
        BackupError::Address(_) | BackupError::Asked(_) => Failure::new(BAD_ARGS, e.to_string()),
        _ => Failure::error(e.to_string()),
    }
}

/// What is to be kept; none if nothing was said about it.
fn keep(call: &Call) -> Option<Keep> {
    let keep = Keep { count: call.flags.uint("keep"), age: call.flags.duration("keep-for") };
    (keep.count > 0 || keep.age > Duration::ZERO).then_some(keep)
}

/// Deletes what is not to be kept; tells what that was.
async fn retain(store: &Store, keep: &Keep) -> Result<(), Failure> {
    let catalog = Catalog::read(store).await.map_err(failed)?;
    for backup in catalog.expired(keep) {
        backup.delete(store).await.map_err(failed)?;
        eprintln!("deleted backup {}", backup.id);
    }
    store.sweep().map_err(failed)
}

fn row(backup: &Backup) -> BackupRow {
    let (id, size) = (backup.id.clone(), backup.size);
    let manifest = match &backup.state {
        State::Complete(manifest) => manifest,
        State::Unfinished => return BackupRow { id, size, state: "unfinished", ..BackupRow::default() },
        State::Unreadable(why) => {
            return BackupRow { id, size, state: "unreadable", trouble: why.clone(), ..BackupRow::default() };
        }
    };
    let reach = backup.reach(manifest);
    let trouble = backup.gap().map(|next| {
        let last = reach.revision;
        format!("a part of its log is missing: it can be restored to revision {last}, and not to those up to {next}")
    });
    BackupRow {
        last_revision: reach.revision,
        last_time: shown(reach.time),
        size,
        trouble: trouble.unwrap_or_default(),
        ..row_of(manifest)
    }
}

/// Of a backup that has just been made.
fn row_of(manifest: &Manifest) -> BackupRow {
    BackupRow {
        id: manifest.id.clone(),
        state: if manifest.continuous { "continuous" } else { "complete" },
        first_revision: manifest.revision,
        last_revision: manifest.revision,
        first_time: shown(manifest.time),
        last_time: shown(manifest.time),
        cluster_id: manifest.cluster_id.clone(),
        keys: manifest.total_key,
        size: manifest.size,
        trouble: String::new(),
    }
}

/// To the millisecond, and never later than it is: what is shown can be given to `--to-time`.
fn shown(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time).to_string()
}

/// Whether a failure of the API says that what was asked for has been compacted.
fn is_compacted(failure: &Failure) -> bool {
    failure.is(Error::Compacted)
}
