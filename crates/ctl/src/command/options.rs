//! `options`: the flags that every command has.

use crate::cli::{self, Call, Command, Group};
use crate::exit::Failure;
use crate::output::out;

pub static COMMAND: Command =
    Command::new("options", "", "Shows the global command-line flags").group(Group::Utility).run(|call| Box::pin(run(call)));

async fn run(_: Call) -> Result<(), Failure> {
    out(cli::options().as_bytes())
}
