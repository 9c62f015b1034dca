//! `check`: whether a cluster is fast enough, and how much memory keys take.

mod datascale;
mod load;
mod perf;
mod report;

use keelson_api::etcdserverpb::{CompactionRequest, DefragmentRequest, DeleteRangeRequest, RangeRequest};

use crate::cli::{Call, Command, Flag, Group};
use crate::client::{Client, Config, prefix_end};
use crate::exit::{BAD_FEATURE, Failure, INVALID_INPUT};
use crate::go::quote::quote;
use crate::output::line;

pub static COMMAND: Command =
    Command::new("check", "<subcommand>", "Measures a cluster").group(Group::Utility).commands(COMMANDS);

const COMMANDS: &[&Command] = &[&datascale::COMMAND, &perf::COMMAND];

const AUTO_COMPACT: Flag = Flag::switch("auto-compact", "compact up to the last revision at the end");
const AUTO_DEFRAG: Flag = Flag::switch("auto-defrag", "defragment at the end");
const LOADS: &[&str] = &["s", "m", "l", "xl", "small", "medium", "large", "xLarge"];

/// One of four, by either of its names.
fn size<T: Copy>(call: &Call, sizes: [T; 4]) -> Result<T, Failure> {
    let load = call.flags.text("load");
    let at = match load {
        "s" | "small" => 0,
        "m" | "medium" => 1,
        "l" | "large" => 2,
        "xl" | "xLarge" => 3,
        _ => return Err(Failure::new(BAD_FEATURE, format!("unknown load option {load}"))),
    };
    Ok(sizes[at])
}

/// So many clients, each with a connection of its own.
async fn clients(config: &Config, count: usize) -> Result<Vec<Client>, Failure> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::new(config.clone()).await?);
    }
    Ok(clients)
}

/// What is written is removed afterwards, so there must be nothing else.
async fn must_be_empty(client: &Client, prefix: &str) -> Result<(), Failure> {
    let (key, range_end) = (prefix.to_owned().into(), prefix_end(prefix.as_bytes()));
    let request = RangeRequest { key, range_end, limit: 1, ..RangeRequest::default() };
    if client.range(request).await?.kvs.is_empty() {
        return Ok(());
    }
    let shown = quote(prefix.as_bytes());
    let message = format!("prefix {shown} has keys. Delete with 'keelsonctl del --prefix {prefix}' first");
    Err(Failure::new(INVALID_INPUT, message))
}

/// For what comes after the measurement: millions of keys are neither removed nor compacted in the time of a short command.
fn unhurried(client: &Client) -> Client {
    client.clone().without_limit()
}

/// Removes what was written; the revision of that.
async fn clean_up(client: &Client, prefix: &str) -> Result<i64, Failure> {
    let range_end = prefix_end(prefix.as_bytes());
    let request = DeleteRangeRequest { key: prefix.to_owned().into(), range_end, prev_kv: false };
    Ok(client.delete_range(request).await?.header.map_or(0, |header| header.revision))
}

async fn compact(client: &Client, revision: i64) -> Result<(), Failure> {
    line(format!("Compacting with revision {revision}"))?;
    client.compact(CompactionRequest { revision, physical: true }).await?;
    line(format!("Compacted with revision {revision}"))
}

async fn defragment(config: &Config) -> Result<(), Failure> {
    for endpoint in &config.endpoints {
        let shown = quote(endpoint.as_bytes());
        line(format!("Defragmenting {shown}"))?;
        unhurried(&Client::new(config.at(endpoint)).await?).defragment(DefragmentRequest {}).await?;
        line(format!("Defragmented {shown}"))?;
    }
    Ok(())
}
