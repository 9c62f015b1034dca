//! `backup list`: what there is in a store.

use keelson_snapshot::backup::Catalog;

use super::{AUTHORITIES, OPTION, failed, row, store};
use crate::cli::{Call, Command, Flag};
use crate::exit::Failure;
use crate::output::Reply;

pub static COMMAND: Command = Command::new("list", "<store> [options]", "Lists backups, and what each can be restored to")
    .long(
        "Lists backups, and what each can be restored to: one revision, or any of those that its log has. One is unfinished \
         while it is being made, or if that was broken off.\n\nNo server is asked.",
    )
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[AUTHORITIES, OPTION];

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "backup list requires exactly one argument <store>")?;
    call.alone()?;
    call.format()?;
    let store = store(&call, 0)?;
    let catalog = Catalog::read(&store).await.map_err(failed)?;
    call.print(&Reply::Backups(catalog.backups.iter().map(row).collect()))
}
