//! Puts while a new member catches up with a large store: how much of the throughput that costs the others.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client;
use crate::measure::{Measured, measure};
use crate::mix::{self, Mix};
use crate::scenario::Bench;
use crate::server::Program;

/// A member that takes longer to catch up is given up.
const LIMIT: Duration = Duration::from_secs(900);
/// How often it is asked how far it is.
const PACE: Duration = Duration::from_millis(250);

pub async fn run(bench: &Bench, program: &Program, rows: &mut Vec<Measured>) -> Result<()> {
    let server = bench.cluster(program).await?;
    let sizes = &bench.sizes;
    let keys = sizes.join_bytes / sizes.big_value as u64;
    client::write(&server.endpoint, 0..keys, sizes.big_value, 1, 64).await?;
    let mix = Mix { tasks: 100, keys, value: sizes.value, read_percent: 0, pace: Default::default() };
    let leader = server.endpoint.clone();
    let before = mix::run_for(&leader, mix, sizes.compact_window);
    rows.push(measure(bench, &server, "puts-before-join", before).await?);

    let during = async {
        let goal = client::status(&leader).await?.raft_index;
        let puts = mix::start(&leader, mix).await?;
        let start = Instant::now();
        let newcomer = server.join().await?;
        let took = caught_up(&newcomer.address.client, goal, start).await?;
        Ok(puts.stop().await?.note(format!("the new member had caught up after {:.1} s", took.as_secs_f64())))
    };
    rows.push(measure(bench, &server, "puts-during-join", Box::pin(during)).await?);
    Ok(())
}

/// Waits until the member has applied everything up to `goal`.
async fn caught_up(member: &str, goal: u64, start: Instant) -> Result<Duration> {
    loop {
        // Until it serves, it has not caught up.
        if client::status(member).await.is_ok_and(|status| status.raft_applied_index >= goal) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > LIMIT {
            bail!("the new member has not caught up within {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(PACE).await;
    }
}
