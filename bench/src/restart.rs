//! A crash with a million keys: memory before it, and the time from SIGKILL to the first
//! linearizable put.

use std::time::Instant;

use anyhow::Result;

use crate::client;
use crate::measure::{Load, Measured, measure};
use crate::process;
use crate::scenario::Bench;
use crate::server::Program;

pub async fn run(bench: &Bench, program: &Program, rows: &mut Vec<Measured>) -> Result<()> {
    let mut server = bench.server(program).await?;
    let sizes = &bench.sizes;
    let endpoint = server.endpoint.clone();
    let fill = async {
        let start = Instant::now();
        let (keys, singly) = (sizes.restart_keys, sizes.restart_keys / 20);
        client::fill(&endpoint, 0..keys, sizes.value).await?;
        // The log's end shall look like that of a store in use, and not like one of a bulk load:
        // enough single puts that a server takes its snapshot and cuts its log.
        client::write(&endpoint, 0..singly, sizes.value, 1, 100).await?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Load { ops: keys + singly, seconds, ..Default::default() }.note("filled in batches"))
    };
    rows.push(measure(bench, &server, "fill", fill).await?);

    let took = server.crash_and_restart().await?.as_secs_f64();
    let settled = process::settle(&server.pids(), sizes.settle).await?;
    let load = Load { ops: 1, seconds: took, p50: Some(took * 1e3), p99: Some(took * 1e3), note: String::new() };
    rows.push(Measured {
        row: "restart".into(),
        load,
        // All that the new process used, since starting is all that it did.
        cpu_seconds: process::cpu(&server.pids())?.as_secs_f64(),
        memory: process::memory(&server.pids())?,
        disk: server.disk(),
        syncs: None,
        settled,
        others: None,
    });
    Ok(())
}
