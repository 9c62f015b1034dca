//! `put`: writes one key.

use std::io::{self, Read};

use bytes::Bytes;
use keelson_api::etcdserverpb::PutRequest;

use crate::cli::{Call, Command, Flag, Group};
use crate::exit::Failure;
use crate::go::number;
use crate::output::Reply;

pub static COMMAND: Command =
    Command::new("put", "[options] <key> <value> (<value> can also be given from stdin)", "Puts a key into the store")
        .long(
            "Puts a key into the store.\n\n\
             Without a value on the command line, all of stdin is the value, as in: cat file | keelsonctl put <key>\n\
             A key or value that begins with '-' goes behind '--': keelsonctl put <key> -- <value>",
        )
        .group(Group::KeyValue)
        .flags(FLAGS)
        .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    Flag::switch("ignore-lease", "keep the lease that the key has"),
    Flag::switch("ignore-value", "keep the value that the key has"),
    Flag::text("lease", "0", "id (hexadecimal) of the lease that the key is attached to"),
    Flag::switch("prev-kv", "print the key and value from before"),
];

async fn run(mut call: Call) -> Result<(), Failure> {
    let request = request(&call)?;
    let client = call.client().await?;
    let response = client.put(request).await?;
    call.print(&Reply::Put(response))
}

/// What the flags and arguments ask for; also a line of a transaction.
pub fn request(call: &Call) -> Result<PutRequest, Failure> {
    let needs = || Failure::args("put command needs 1 argument and input from stdin or 2 arguments");
    if call.args.is_empty() {
        return Err(needs());
    }
    let ignore_value = call.on("ignore-value");
    if ignore_value && call.args.len() > 1 {
        return Err(Failure::args("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match call.args.len() {
        _ if ignore_value => Bytes::new(),
        1 => stdin().ok_or_else(needs)?,
        _ => call.arg(1),
    };
    let lease = number::int(call.flags.text("lease"), 16);
    Ok(PutRequest {
        key: call.arg(0),
        value,
        lease: lease.map_err(|why| Failure::args(format!("bad lease ID ({why}), expecting ID in Hex")))?,
        prev_kv: call.on("prev-kv"),
        ignore_value,
        ignore_lease: call.on("ignore-lease"),
    })
}

/// Nothing if there is nothing.
fn stdin() -> Option<Bytes> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then(|| bytes.into())
}
