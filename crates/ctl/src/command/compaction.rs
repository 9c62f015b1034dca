//! `compaction`: drops the history before a revision.

use keelson_api::etcdserverpb::CompactionRequest;

use crate::cli::{Call, Command, Flag, Group};
use crate::exit::Failure;
use crate::go::number;
use crate::output::line;

pub static COMMAND: Command = Command::new("compaction", "[options] <revision>", "Drops the history before a revision")
    .group(Group::KeyValue)
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[Flag::switch("physical", "wait until it is gone from the disk, too")];

async fn run(mut call: Call) -> Result<(), Failure> {
    call.expect(1, "compaction command needs 1 argument")?;
    let revision = number::int(&call.word(0), 10).map_err(Failure::error)?;
    let client = call.client().await?;
    client.compact(CompactionRequest { revision, physical: call.on("physical") }).await?;
    line(format!("compacted revision {revision}"))
}
