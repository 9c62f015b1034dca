//! Configuration as etcd users know it: flags, `ETCD_*` variables, or a file.

mod file;
mod flags;
#[cfg(test)]
mod fuzz;
mod gates;
mod parse;
mod urls;

pub use gates::Gates;
pub use parse::{AutoCompaction, Config, Outcome, from_command_line};
pub use urls::ListenUrl;
