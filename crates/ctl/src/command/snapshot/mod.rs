//! `snapshot`: the whole store in a file. Saving is etcdctl's; what is done with the file afterwards is etcdutl's, and
//! needs no server.

mod restore;
mod save;
mod status;

pub(in crate::command) use save::Progress;

use crate::cli::{Command, Flag, Group, Kind};

pub static COMMAND: Command =
    Command::new("snapshot", "<subcommand>", "Saves the whole store to a file, looks at such files and restores them")
        .group(Group::Maintenance)
        .commands(COMMANDS);

const COMMANDS: &[&Command] = &[&restore::COMMAND, &save::COMMAND, &status::COMMAND];

/// A flag of all of etcdutl's commands, which waits for the lock of a database.
const TIMEOUT: Flag = Flag::new(Kind::Duration, "timeout", "10s", "no effect: no lock is waited for");
