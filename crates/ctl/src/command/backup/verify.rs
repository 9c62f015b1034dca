//! `backup verify`: fetches all of a backup, and restores it. A backup that was never restored is a hope.

use std::path::Path;

use keelson_snapshot::backup::{Catalog, Store, Target, Until, fetch};
use keelson_snapshot::{RestoreOptions, Restored, restore_with};

use super::{AUTHORITIES, FOLDER, OPTION, failed, folder, store};
use crate::cli::{Call, Command, Flag};
use crate::exit::Failure;
use crate::output::line;

pub static COMMAND: Command = Command::new("verify", "<store> [id] [options]", "Restores a backup, and removes that again")
    .long(
        "Fetches all of a backup (the newest one if none is named), holds it against its sums, restores snapshot and log to a \
         directory in --folder, holds the keys against what the member told of them, and removes the directory again. It takes \
         twice the size of the backup there.\n\nNo server is asked.",
    )
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[FOLDER, AUTHORITIES, OPTION];

async fn run(mut call: Call) -> Result<(), Failure> {
    if !(1..=2).contains(&call.args.len()) {
        return Err(Failure::args("backup verify requires a <store>, and takes one [id]"));
    }
    call.alone()?;
    let store = store(&call, 0)?;
    let catalog = Catalog::read(&store).await.map_err(failed)?;
    let id = (call.args.len() == 2).then(|| call.word(1));
    let target = catalog.target(&store, id.as_deref(), Until::Latest).await.map_err(failed)?;
    let restored = Box::pin(try_out(&store, &target, &folder(&call))).await?;
    let id = &target.manifest.id;
    let sums = match restored.compared {
        0 => "there was no sum of its keys that could be compared",
        _ => "its keys have the sum that the member told",
    };
    line(format!("backup {id} can be restored to revision {}: {} changes; {sums}", restored.revision, restored.changes))?;
    let (backup, _) = catalog.usable(id).map_err(failed)?;
    match backup.gap() {
        None => Ok(()),
        Some(next) => Err(Failure::error(format!(
            "a part of the log of backup {id} is missing: after revision {} comes nothing, and there has been revision {next}; \
             \"backup create\" makes another one",
            target.revision
        ))),
    }
}

async fn try_out(store: &Store, target: &Target, folder: &Path) -> Result<Restored, Failure> {
    let fetched = fetch(store, target, folder).await.map_err(failed)?;
    let place = tempfile::TempDir::with_prefix_in(".keelson-verify-", folder);
    let place = place.map_err(|e| Failure::error(format!("nothing can be restored to {}: {e}", folder.display())))?;
    let options = RestoreOptions {
        snapshot: fetched.snapshot.clone(),
        data_dir: Some(place.path().join("data")),
        ..RestoreOptions::default()
    };
    restore_with(&options, &fetched.replay).map_err(|e| Failure::error(e.to_string()))
}
