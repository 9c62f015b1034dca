//! `version`: what this is a drop-in for, and what it is.

use crate::cli::{Call, Command, Group, PROGRAM};
use crate::exit::Failure;
use crate::output::line;

/// The etcdctl whose behaviour this has. Scripts read the first two lines.
const ETCDCTL: &str = "3.7.3";
const API: &str = "3.7";

pub static COMMAND: Command =
    Command::new("version", "", "Prints the version").group(Group::Utility).run(|call| Box::pin(run(call)));

async fn run(_: Call) -> Result<(), Failure> {
    line(format!("etcdctl version: {ETCDCTL}"))?;
    line(format!("API version: {API}"))?;
    line(format!("{PROGRAM} version: {}", env!("CARGO_PKG_VERSION")))
}
