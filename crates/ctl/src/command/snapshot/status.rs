//! `snapshot status`: what is in a file, in the figures of `etcdutl snapshot status`.

use std::fs;

use keelson_snapshot::SnapshotError;

use super::TIMEOUT;
use crate::cli::{Call, Command, Flag};
use crate::exit::Failure;
use crate::output::Reply;

pub static COMMAND: Command = Command::new("status", "<filename>", "Tells what is in a snapshot")
    .long(
        "Tells what is in a snapshot: its hash, newest revision, number of keys, size, and the version of its format. All of \
         it is read; the checksum at its end is not compared, \"snapshot restore\" does that.\n\n\
         No server is asked.",
    )
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[TIMEOUT];

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "snapshot status requires exactly one argument")?;
    call.alone()?;
    let path = call.file(0);
    let failed = |e: SnapshotError| Failure::error(e.to_string());
    // A file that is not there counts before a format that there is not.
    fs::metadata(&path).map_err(|source| failed(SnapshotError::Unreadable { path: path.clone(), source }))?;
    call.format()?;
    let status = keelson_snapshot::status(&path).map_err(failed)?;
    call.print(&Reply::Snapshot(status))
}
