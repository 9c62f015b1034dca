//! Lists of many objects, as Kubernetes' watch caches fill themselves: in one answer, in pages at
//! a pinned revision while somebody writes, and streamed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use keelson_api::etcdserverpb::RangeRequest;

use crate::client::{self, Kv, PREFIX, PREFIX_END};
use crate::count::Lister;
use crate::measure::{Load, Measured, measure};
use crate::mix::{self, Mix};
use crate::scenario::Bench;
use crate::server::{Program, Server};
use crate::stats::Latencies;

#[derive(Debug, Clone, Copy)]
enum How {
    Unary,
    Paged,
    Streamed,
}

fn everything() -> RangeRequest {
    RangeRequest { key: PREFIX.into(), range_end: PREFIX_END.into(), ..Default::default() }
}

pub async fn run(bench: &Bench, program: &Program, rows: &mut Vec<Measured>) -> Result<()> {
    for (row, how) in [("list-unary", How::Unary), ("list-paged", How::Paged), ("list-streamed", How::Streamed)] {
        // A server each: the memory that one way takes must not be there for the next.
        let server = bench.server(program).await?;
        let sizes = &bench.sizes;
        client::fill(&server.endpoint, 0..sizes.list_objects, sizes.list_value).await?;
        rows.push(measure(bench, &server, row, lists(bench, &server, how)).await?);
    }
    Ok(())
}

/// The list, several times; one operation is a whole list.
async fn lists(bench: &Bench, server: &Server, how: How) -> Result<Load> {
    let sizes = &bench.sizes;
    let writer = match how {
        // 200 puts per second over the listed keys, so that the pinned revision is an old one.
        How::Paged => {
            let pace = Duration::from_millis(50);
            let mix = Mix { tasks: 10, keys: sizes.list_objects, value: sizes.list_value, read_percent: 0, pace };
            Some(mix::start(&server.endpoint, mix).await?)
        }
        _ => None,
    };
    let mut kv = client::kv(client::connect(&server.endpoint).await?);
    let lister = Lister::connect(&server.endpoint).await?;
    let (start, mut times) = (Instant::now(), Latencies::default());
    for _ in 0..sizes.lists {
        let begin = Instant::now();
        let found = match how {
            How::Unary => lister.list(everything(), false).await?,
            How::Paged => paged(&mut kv, sizes.page).await?,
            How::Streamed => lister.list(everything(), true).await?,
        };
        times.add(begin.elapsed());
        ensure!(found == sizes.list_objects, "listed {found} objects of {}", sizes.list_objects);
    }
    let seconds = start.elapsed().as_secs_f64();
    let note = match writer {
        Some(writer) => format!("{} puts beside it", writer.stop().await?.ops),
        None => String::new(),
    };
    Ok(Load::of(times, seconds).note(note))
}

async fn paged(kv: &mut Kv, limit: i64) -> Result<u64> {
    let (mut found, mut revision, mut from) = (0, 0, Bytes::from(PREFIX));
    loop {
        let page = RangeRequest { key: from, limit, revision, ..everything() };
        let page = kv.range(page).await?.into_inner();
        found += page.kvs.len() as u64;
        match page.kvs.last() {
            Some(last) if page.more => {
                // The next key is the last one with a zero byte behind it.
                from = [&last.key[..], &[0]].concat().into();
                if revision == 0 {
                    revision = page.header.map_or(0, |h| h.revision);
                }
            }
            _ => return Ok(found),
        }
        // All pages at the first one's revision, as Kubernetes' continue tokens ask for.
        ensure!(revision > 0, "a page without a revision");
    }
}
