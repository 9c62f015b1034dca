//! `backup delete`: by name, or whatever is not to be kept.

use keelson_snapshot::backup::Catalog;

use super::{AUTHORITIES, KEEP, KEEP_FOR, OPTION, failed, keep, store};
use crate::cli::{Call, Command, Flag};
use crate::exit::Failure;
use crate::output::line;

pub static COMMAND: Command = Command::new("delete", "<store> [id ...] [options]", "Deletes backups by name or by age")
    .long(
        "Deletes the backups that are named; or, with --keep and --keep-for, those that neither of them keeps, and what nobody \
         has finished for a day. The newest one stays unless it is named. Age counts from the newest backup, not from this machine's \
         clock. Prints what was deleted.\n\nNo server is asked.",
    )
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[Flag::switch("dry-run", "only print what would be deleted"), KEEP, KEEP_FOR, AUTHORITIES, OPTION];

async fn run(mut call: Call) -> Result<(), Failure> {
    let Some(named) = call.args.len().checked_sub(1) else {
        return Err(Failure::args("backup delete requires a <store>"));
    };
    call.alone()?;
    let store = store(&call, 0)?;
    let catalog = Catalog::read(&store).await.map_err(failed)?;
    let chosen = match keep(&call) {
        Some(keep) if named == 0 => catalog.expired(&keep),
        None if named > 0 => {
            let found: Result<Vec<_>, _> = (1..=named).map(|at| catalog.find(&call.word(at))).collect();
            found.map_err(failed)?
        }
        _ => return Err(Failure::args("backup delete needs either names of backups, or --keep or --keep-for")),
    };
    for backup in chosen {
        if !call.on("dry-run") {
            backup.delete(&store).await.map_err(failed)?;
        }
        line(&backup.id)?;
    }
    if named > 0 || call.on("dry-run") { Ok(()) } else { store.sweep().map_err(failed) }
}
