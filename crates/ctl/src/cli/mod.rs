//! The command line: which commands and flags there are, what was given, and what is told about them.
//!
//! etcdctl's conventions are those of Go's cobra and pflag. Whether a word is a flag, the value of one or a sub-command, how
//! a command may be abbreviated and what is said about mistakes differs from clap's in ways that scripts notice, so this is
//! a parser of its own.

mod call;
mod complete;
mod env;
mod flag;
mod global;
mod help;
mod parse;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use call::Call;
pub use complete::candidates;
pub use env::read as environment;
pub use flag::{Flag, Kind, Values};
pub use global::FLAGS as GLOBAL;
pub use help::{options, page, usage};
pub use parse::{Parsed, Wrong, parse, parse_flags};

use crate::exit::Failure;

pub const PROGRAM: &str = "keelsonctl";

/// What a command does.
pub type Run = fn(Call) -> Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// Under which heading a command is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    KeyValue,
    Maintenance,
    Concurrency,
    Authentication,
    Utility,
    /// Sub-commands have none.
    None,
}

impl Group {
    pub const HEADINGS: [(Group, &'static str); 5] = [
        (Group::KeyValue, "Key-value commands"),
        (Group::Maintenance, "Cluster maintenance commands"),
        (Group::Concurrency, "Concurrency commands"),
        (Group::Authentication, "Authentication commands"),
        (Group::Utility, "Utility commands"),
    ];
}

pub struct Command {
    pub name: &'static str,
    /// What follows the name in its usage line.
    pub arguments: &'static str,
    pub short: &'static str,
    /// Nothing if `short` says it all.
    pub long: &'static str,
    pub group: Group,
    pub flags: &'static [Flag],
    /// Flags that its sub-commands have as well.
    pub inherited: &'static [Flag],
    pub commands: &'static [&'static Command],
    /// What its first argument can be, if that is a fixed list.
    pub choices: &'static [&'static str],
    pub run: Option<Run>,
}

impl Command {
    pub const fn new(name: &'static str, arguments: &'static str, short: &'static str) -> Self {
        Self {
            name,
            arguments,
            short,
            long: "",
            group: Group::None,
            flags: &[],
            inherited: &[],
            commands: &[],
            choices: &[],
            run: None,
        }
    }

    pub const fn long(mut self, long: &'static str) -> Self {
        self.long = long;
        self
    }

    pub const fn group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    pub const fn flags(mut self, flags: &'static [Flag]) -> Self {
        self.flags = flags;
        self
    }

    pub const fn inherited(mut self, flags: &'static [Flag]) -> Self {
        self.inherited = flags;
        self
    }

    pub const fn commands(mut self, commands: &'static [&'static Command]) -> Self {
        self.commands = commands;
        self
    }

    pub const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    pub const fn run(mut self, run: Run) -> Self {
        self.run = Some(run);
        self
    }

    /// The sub-command of this name, or the only one that begins so.
    pub fn find(&self, word: &[u8]) -> Option<&'static Command> {
        if let Some(exact) = self.commands.iter().find(|command| command.name.as_bytes() == word) {
            return Some(exact);
        }
        let mut begin = self.commands.iter().filter(|command| command.name.as_bytes().starts_with(word));
        match (begin.next(), begin.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All flags that can be given behind the last command of a path.
pub fn flags_of(path: &[&'static Command]) -> impl Iterator<Item = &'static Flag> + use<> {
    let own = path.last().map_or(&[][..], |command| command.flags);
    let inherited: Vec<&'static Flag> = path.iter().flat_map(|command| command.inherited).collect();
    own.iter().chain(inherited)
}

/// The flags that the last command of a path has from those above it. Only they come from the environment: what a command
/// does is not to depend on variables that were set for another one, or for something else altogether.
pub fn inherited_by(path: &[&'static Command]) -> impl Iterator<Item = &'static Flag> + use<> {
    let above = path.split_last().map_or(&[][..], |(_, above)| above);
    let flags: Vec<&'static Flag> = above.iter().flat_map(|command| command.inherited).collect();
    flags.into_iter()
}
