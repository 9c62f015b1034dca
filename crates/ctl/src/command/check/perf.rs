//! `check perf`: whether the cluster takes as many writes in a second as it should.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::sync::mpsc::channel;
use tokio::time::{Instant, interval};

use super::report::Report;
use super::{AUTO_COMPACT, AUTO_DEFRAG, LOADS, clean_up, clients, compact, defragment, load, must_be_empty, size, unhurried};
use crate::cli::{Call, Command, Flag};
use crate::client::Client;
use crate::exit::{ERROR, Failure};
use crate::output::line;

const DURATION: Duration = Duration::from_secs(60);
const KEY: usize = 256;
const VALUE: usize = 1024;
/// In seconds: a request may not take longer, and they may not differ by more.
const SLOWEST: f64 = 0.5;
const DEVIATION: f64 = 0.1;
/// Of the writes that are offered so much must be taken.
const ENOUGH: f64 = 0.9;

/// Writes in a second, and the clients that send them.
#[derive(Clone, Copy)]
struct Size {
    writes: u32,
    clients: usize,
}

const SIZES: [Size; 4] = [
    Size { writes: 150, clients: 50 },
    Size { writes: 1000, clients: 200 },
    Size { writes: 8000, clients: 500 },
    Size { writes: 15000, clients: 1000 },
];

pub static COMMAND: Command =
    Command::new("perf", "[options]", "Checks how fast a cluster writes").flags(FLAGS).run(|call| Box::pin(run(call)));

const FLAGS: &[Flag] = &[
    AUTO_COMPACT,
    AUTO_DEFRAG,
    Flag::text("load", "s", "keys in a second: s(mall) 150, m(edium) 1000, l(arge) 8000, xl(arge) 15000").choices(LOADS),
    Flag::text("prefix", "/etcdctl-check-perf/", "what the keys begin with that are written"),
];

async fn run(mut call: Call) -> Result<(), Failure> {
    let Size { writes, clients: count } = size(&call, SIZES)?;
    let config = call.config().await?;
    let prefix = call.flags.text("prefix").to_owned();
    let clients = clients(&config, count).await?;
    let first = &clients[0];
    must_be_empty(first, &prefix).await?;

    let start = Instant::now();
    let report = write(&clients, &prefix, writes).await;
    let per_second = report.answered() as f64 / start.elapsed().as_secs_f64();

    let first = unhurried(first);
    match clean_up(&first, &prefix).await {
        Ok(revision) if call.on("auto-compact") => compact(&first, revision).await?,
        Ok(_) => {}
        Err(failure) => line(format!("FAIL: Cleanup failed during key deletion: ERROR({})", failure.text()))?,
    }
    if call.on("auto-defrag") {
        defragment(&config).await?;
    }
    judge(&report, per_second, f64::from(writes))
}

/// Offers so many writes in a second until the time is over or somebody interrupts.
async fn write(clients: &[Client], prefix: &str, writes: u32) -> Report {
    let (requests, taken) = channel(clients.len());
    let offer = async move {
        let start = Instant::now();
        let mut turns = interval(Duration::from_secs(1) / writes);
        let live = io::stderr().is_terminal();
        let mut told = 0;
        while start.elapsed() < DURATION {
            turns.tick().await;
            if requests.send(load::request(prefix, KEY, VALUE)).await.is_err() {
                return;
            }
            let seconds = start.elapsed().as_secs();
            if live && seconds > told {
                told = seconds;
                eprint!("\r{told} of {} s ", DURATION.as_secs());
            }
        }
        if live {
            eprintln!();
        }
    };
    let offer = async move {
        tokio::select! {
            () = offer => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let (report, ()) = futures::join!(load::write(clients, taken, |_| ()), offer);
    report
}

fn judge(report: &Report, per_second: f64, wanted: f64) -> Result<(), Failure> {
    let mut passed = true;
    let mut say = |pass: bool, text: String| {
        passed &= pass;
        line(text)
    };
    if report.errors().next().is_some() {
        say(false, "FAIL: too many errors".into())?;
    }
    for (error, count) in report.errors() {
        say(false, format!("FAIL: ERROR({error}) -> {count}"))?;
    }
    let shown = per_second as u64 + 1;
    if per_second / wanted <= ENOUGH {
        say(false, format!("FAIL: Throughput too low: {shown} writes/s"))?;
    } else {
        say(true, format!("PASS: Throughput is {shown} writes/s"))?;
    }
    let slowest = report.slowest();
    if slowest > SLOWEST {
        say(false, format!("Slowest request took too long: {slowest:.6}s"))?;
    } else {
        say(true, format!("PASS: Slowest request took {slowest:.6}s"))?;
    }
    let deviation = report.deviation();
    if deviation > DEVIATION {
        say(false, format!("Stddev too high: {deviation:.6}s"))?;
    } else {
        say(true, format!("PASS: Stddev is {deviation:.6}s"))?;
    }
    line(if passed { "PASS" } else { "FAIL" })?;
    if passed { Ok(()) } else { Err(Failure::told(ERROR)) }
}
