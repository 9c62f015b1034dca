//! Configuration as etcd users know it: flags, `ETCD_*` variables, or a file.

mod discovery;
mod file;
mod flags;
#[cfg(test)]
mod fuzz;
mod gates;
mod parse;
mod security;
mod tokens;
mod urls;
mod web;

pub use discovery::{Discovery, Registry};
pub use gates::Gates;
pub use parse::{AutoCompaction, Config, Outcome, from_command_line, parse_cluster};
pub use security::{Named, Pair, Security};
pub use tokens::{JwtOptions, TokenKind};
pub use urls::{Address, ListenUrl};
pub use web::{Allowed, Web};

/// Settings of plain HTTP, for tests.
#[cfg(test)]
pub fn web(cors: &str, host_whitelist: &str) -> Web {
    web::read(true, cors, host_whitelist).unwrap()
}
