//! Configuration as etcd users know it: flags, `ETCD_*` variables, or a file.

mod file;
mod flags;
#[cfg(test)]
mod fuzz;
mod parse;
mod security;
mod urls;

pub use parse::{AutoCompaction, Config, Outcome, from_command_line};
pub use security::{Named, Pair, Security};
pub use urls::{Address, ListenUrl};
