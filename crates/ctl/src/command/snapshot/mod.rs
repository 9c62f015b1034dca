//! `snapshot`: the whole store in a file.

mod save;

use crate::cli::{Command, Group};

pub static COMMAND: Command =
    Command::new("snapshot", "<subcommand>", "Saves the whole store to a file").group(Group::Maintenance).commands(COMMANDS);

const COMMANDS: &[&Command] = &[&save::COMMAND];
