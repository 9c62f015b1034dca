//! `backup create`: one snapshot in a store.

use super::make::make;
use super::{AUTHORITIES, FOLDER, KEEP, KEEP_FOR, OPTION, folder, keep, retain, row_of, store};
use crate::cli::{Call, Command, Flag};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::Reply;

pub static COMMAND: Command = Command::new("create", "<store> [options]", "Makes a backup")
    .long(
        "Makes a backup: a snapshot of one member, taken to the store while it arrives, and read to its end here before it \
         counts as one. With --keep or --keep-for older ones are deleted after that.",
    )
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[FOLDER, KEEP, KEEP_FOR, AUTHORITIES, OPTION];

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "backup create requires exactly one argument <store>")?;
    let config = call.config().await?;
    let store = store(&call, 0)?;
    let client = Client::new(config).await?;
    let client = if call.flags.given("command-timeout") { client } else { client.without_limit() };
    let manifest = Box::pin(make(&client, &store, &folder(&call), false)).await?;
    call.print(&Reply::Backups(vec![row_of(&manifest)]))?;
    match keep(&call) {
        Some(keep) => retain(&store, &keep).await,
        None => Ok(()),
    }
}
