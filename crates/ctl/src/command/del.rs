//! `del`: removes a key or a range of keys.

use std::time::Duration;

use keelson_api::etcdserverpb::DeleteRangeRequest;

use crate::cli::{Call, Command, Flag, Group};
use crate::client::prefix_end;
use crate::exit::Failure;
use crate::go::quote::quote;
use crate::output::Reply;

/// Long enough to see what one has typed.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

pub static COMMAND: Command =
    Command::new("del", "[options] <key> [range_end]", "Removes a key or a range of keys [key, range_end)")
        .group(Group::KeyValue)
        .flags(FLAGS)
        .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    Flag::switch("from-key", "remove the keys that are not smaller than the given one"),
    Flag::switch("prefix", "remove the keys that begin with the given one"),
    Flag::switch("prev-kv", "print what was removed"),
    Flag::switch("range", "remove a range without waiting for second thoughts"),
];

async fn run(mut call: Call) -> Result<(), Failure> {
    let request = request(&call).await?;
    let client = call.client().await?;
    let response = client.delete_range(request).await?;
    call.print(&Reply::Delete(response))
}

/// What the flags and arguments ask for; also a line of a transaction.
pub async fn request(call: &Call) -> Result<DeleteRangeRequest, Failure> {
    let (prefix, from_key) = (call.on("prefix"), call.on("from-key"));
    if call.args.is_empty() || call.args.len() > 2 {
        return Err(Failure::args("del command needs one argument as key and an optional argument as range_end"));
    }
    if prefix && from_key {
        return Err(Failure::args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    let mut request = DeleteRangeRequest { key: call.arg(0), prev_kv: call.on("prev-kv"), ..DeleteRangeRequest::default() };
    if call.args.len() > 1 {
        if prefix || from_key {
            return Err(Failure::args("too many arguments, only accept one argument when `--prefix` or `--from-key` is set"));
        }
        request.range_end = call.arg(1);
        if !call.on("range") {
            eprintln!(
                "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 seconds to \
                 cancel. You can provide `--range` flag to avoid the delay.",
                quote(&call.args[0]),
                quote(&call.args[1])
            );
            tokio::time::sleep(SECOND_THOUGHTS).await;
        }
    }
    if prefix || from_key {
        request.range_end = if prefix { prefix_end(&request.key) } else { "\0".into() };
        if request.key.is_empty() {
            request.key = "\0".into();
        }
    }
    Ok(request)
}
