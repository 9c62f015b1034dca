//! Puts while a large history is compacted: how much of the throughput the clean-up costs.

use std::time::Instant;

use anyhow::Result;
use keelson_api::etcdserverpb::CompactionRequest;

use crate::client;
use crate::measure::{Measured, measure};
use crate::mix::{self, Mix};
use crate::scenario::Bench;
use crate::server::Program;

/// A compaction that takes longer is measured for this long only.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

pub async fn run(bench: &Bench, program: &Program, rows: &mut Vec<Measured>) -> Result<()> {
    let server = bench.server(program).await?;
    let sizes = &bench.sizes;
    for _ in 0..sizes.compact_revisions {
        client::fill(&server.endpoint, 0..sizes.compact_keys, sizes.value).await?;
    }
    let mix = Mix { tasks: 100, keys: sizes.compact_keys, value: sizes.value, read_percent: 0, pace: Default::default() };
    let endpoint = &server.endpoint;
    let before = mix::run_for(endpoint, mix, sizes.compact_window);
    rows.push(measure(bench, &server, "puts-before-compaction", before).await?);

    let during = async {
        let mut kv = client::kv(client::connect(endpoint).await?);
        let revision = client::revision(&mut kv).await?;
        let puts = mix::start(endpoint, mix).await?;
        let start = Instant::now();
        let window = tokio::time::sleep(sizes.compact_window);
        // `physical` answers when the history is gone and not just out of sight.
        let compact = kv.compact(CompactionRequest { revision, physical: true });
        // Where clean-up is left to the background, the window makes it count all the same.
        let compact = async {
            let answer = compact.await;
            (answer, start.elapsed())
        };
        let both = async { tokio::join!(compact, window).0 };
        let note = match tokio::time::timeout(LIMIT, both).await {
            Ok((answer, took)) => {
                answer?;
                format!("compaction answered after {:.1} s", took.as_secs_f64())
            }
            Err(_) => format!("compaction not done within {} s", LIMIT.as_secs()),
        };
        Ok(puts.stop().await?.note(note))
    };
    let during = Box::pin(during);
    rows.push(measure(bench, &server, "puts-during-compaction", during).await?);
    Ok(())
}
