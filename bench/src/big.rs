//! Much more data than memory: the same mix of reads and writes while all data fits, and again when
//! there is ten times what the server's cgroup allows.

use anyhow::{Context, Result};

use crate::cgroup::Cgroup;
use crate::client;
use crate::measure::{Measured, measure};
use crate::mix::{self, Mix};
use crate::scenario::Bench;
use crate::server::Program;

pub async fn run(bench: &Bench, program: &Program, rows: &mut Vec<Measured>) -> Result<()> {
    let sizes = &bench.sizes;
    let name = format!("keelson-bench-{}", std::process::id());
    let group = Cgroup::new(&name, sizes.cgroup_limit).context("skipped")?;
    let server = bench.limited_server(program, group).await?;
    let mut filled = 0;
    for (row, bytes) in [("big-in-memory", sizes.big_small), ("big-beyond-memory", sizes.big_full)] {
        let keys = bytes / sizes.big_value as u64;
        let mix = Mix { tasks: 16, keys, value: sizes.big_value, read_percent: 50, pace: Default::default() };
        let measured = async {
            // Single puts: what fills a server's memory shall be its data, and not large
            // transactions in flight or kept in its log's cache.
            client::write(&server.endpoint, filled..keys, sizes.big_value, 1, 64).await?;
            measure(bench, &server, row, mix::run_for(&server.endpoint, mix, sizes.big_time)).await
        };
        let measured = measured.await.with_context(|| match server.out_of_memory() {
            true => "the kernel killed the server: out of memory".to_owned(),
            false => server.log_tail(),
        });
        rows.push(measured?);
        filled = keys;
    }
    Ok(())
}
