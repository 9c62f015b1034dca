//! `check datascale`: how much memory a member takes for so many keys.

use std::io::{self, IsTerminal};

use tokio::sync::mpsc::channel;

use super::{AUTO_COMPACT, AUTO_DEFRAG, LOADS, clean_up, clients, compact, defragment, load, must_be_empty, size, unhurried};
use crate::cli::{Call, Command, Flag};
use crate::client::Client;
use crate::exit::{ERROR, Failure};
use crate::output::line;

const KEY: usize = 512;
const VALUE: usize = 512;
const METRIC: &str = "process_resident_memory_bytes";

/// Keys, and the clients that write them.
#[derive(Clone, Copy)]
struct Size {
    keys: usize,
    clients: usize,
}

const SIZES: [Size; 4] = [
    Size { keys: 10_000, clients: 50 },
    Size { keys: 100_000, clients: 200 },
    Size { keys: 1_000_000, clients: 500 },
    Size { keys: 3_000_000, clients: 1000 },
];

pub static COMMAND: Command = Command::new("datascale", "[options]", "Checks how much memory a member takes for keys")
    .long("Checks how much memory the member at the first endpoint takes for keys.")
    .flags(FLAGS)
    .run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    AUTO_COMPACT,
    AUTO_DEFRAG,
    Flag::text("load", "s", "keys: s(mall) 10000, m(edium) 100000, l(arge) 1000000, xl(arge) 3000000").choices(LOADS),
    Flag::text("prefix", "/etcdctl-check-datascale/", "what the keys begin with that are written"),
];

async fn run(mut call: Call) -> Result<(), Failure> {
    let Size { keys, clients: count } = size(&call, SIZES)?;
    let config = call.config().await?;
    let prefix = call.flags.text("prefix").to_owned();
    let clients = clients(&config, count).await?;
    let first = &clients[0];
    must_be_empty(first, &prefix).await?;

    let before = memory(first, "before").await?;
    line(format!(
        "Start data scale check for work load [{keys} key-value pairs, {} bytes per key-value, {count} concurrent clients].",
        KEY + VALUE
    ))?;
    let (requests, taken) = channel(count);
    let offer = async {
        for _ in 0..keys {
            if requests.send(load::request(&prefix, KEY, VALUE)).await.is_err() {
                return;
            }
        }
        drop(requests);
    };
    let live = io::stderr().is_terminal();
    let progress = |done: usize| {
        if live && done.is_multiple_of(1000) {
            eprint!("\r{done} of {keys} ");
        }
    };
    let (report, ()) = futures::join!(load::write(&clients, taken, progress), offer);
    if live {
        eprintln!();
    }
    let after = memory(first, "after").await?;

    let first = unhurried(first);
    let revision = clean_up(&first, &prefix).await?;
    if call.on("auto-compact") {
        compact(&first, revision).await?;
    }
    if call.on("auto-defrag") {
        defragment(&config).await?;
    }
    if report.errors().next().is_some() {
        line("FAIL: too many errors")?;
        for (error, count) in report.errors() {
            line(format!("FAIL: ERROR({error}) -> {count}"))?;
        }
        return Err(Failure::told(ERROR));
    }
    let used = (after - before) / f64::from(1024 * 1024);
    line(format!("PASS: Approximate system memory used : {used:.2} MB."))
}

/// What the member's own metrics say it takes, in bytes.
async fn memory(client: &Client, when: &str) -> Result<f64, Failure> {
    let read = async {
        let page = client.page("/metrics").await.map_err(|e| format!("fetch error: {e}"))?;
        let value = page.lines().find_map(|line| line.strip_prefix(METRIC)).ok_or(format!("could not find: {METRIC}"))?;
        value.trim().parse::<f64>().map_err(|e| format!("parse error: {e}"))
    };
    match read.await {
        Ok(bytes) => Ok(bytes),
        Err(why) => {
            line(why)?;
            line(format!("FAIL: Could not read {METRIC} {when} the put operations."))?;
            Err(Failure::told(ERROR))
        }
    }
}
