//! Very many watchers on one prefix: each put is one event per watcher. A put follows when all
//! watchers have got the last one, so a round's time is that of fanning one event out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::client::{self, PREFIX, PREFIX_END};
use crate::measure::{Load, Measured, measure};
use crate::scenario::Bench;
use crate::server::{Program, Server};
use crate::stats::Latencies;

/// Watchers share streams and streams share connections, as etcd's clients do it.
const PER_STREAM: usize = 100;
const CONNS: usize = 10;

/// What the streams tell the writer.
#[derive(Debug)]
struct Board {
    base: Instant,
    /// When the current round's put was sent, in nanoseconds after `base`.
    sent: AtomicU64,
    created: AtomicU64,
    events: AtomicU64,
    /// Rung when a count reaches a multiple of `watchers`.
    full: Notify,
    watchers: u64,
}

impl Board {
    fn count(&self, counter: &AtomicU64) {
        if (counter.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(self.watchers) {
            self.full.notify_one();
        }
    }
}

pub async fn run(bench: &Bench, program: &Program, rows: &mut Vec<Measured>) -> Result<()> {
    let server = bench.server(program).await?;
    let watchers = bench.sizes.watchers;
    let board = Arc::new(Board {
        base: Instant::now(),
        sent: AtomicU64::new(0),
        created: AtomicU64::new(0),
        events: AtomicU64::new(0),
        full: Notify::new(),
        watchers: watchers as u64,
    });
    let channels = client::connect_all(&server.endpoint, CONNS).await?;
    let rounds = bench.sizes.watch_rounds;
    let mut streams = JoinSet::new();
    for stream in 0..watchers.div_ceil(PER_STREAM) {
        let share = PER_STREAM.min(watchers - stream * PER_STREAM);
        streams.spawn(watch(channels[stream % CONNS].clone(), share, rounds, board.clone()));
    }
    // A stream that fails ends the run; none ends well before all events have come.
    tokio::select! {
        () = board.full.notified() => {}
        failed = streams.join_next() => bail!("a watch stream ended early: {failed:?}"),
    }
    let row = measure(bench, &server, "watchers", rounds_of(&server, rounds, &board, streams)).await?;
    rows.push(row);
    Ok(())
}

async fn rounds_of(server: &Server, rounds: u64, board: &Board, mut streams: JoinSet<Result<Latencies>>) -> Result<Load> {
    let mut kv = client::kv(client::connect(&server.endpoint).await?);
    let (start, mut fan_out) = (Instant::now(), Latencies::default());
    let mut times = Latencies::default();
    for round in 0..rounds {
        let begin = Instant::now();
        board.sent.store(board.base.elapsed().as_nanos() as u64, Ordering::Release);
        let put = PutRequest { key: client::key(round), value: client::value(round, 256), ..Default::default() };
        kv.put(put).await?;
        // Streams end with the last event, each in its own time; that is not a failure.
        loop {
            tokio::select! {
                biased;
                () = board.full.notified() => break,
                Some(ended) = streams.join_next() => times.merge(ended??),
            }
        }
        fan_out.add(begin.elapsed());
    }
    let seconds = start.elapsed().as_secs_f64();
    while let Some(ended) = streams.join_next().await {
        times.merge(ended??);
    }
    let all = fan_out.percentile(99.0).unwrap_or(0.0);
    Ok(Load::of(times, seconds).note(format!("last watcher of a round p99 {all:.2} ms")))
}

/// One stream: creates its watchers, then times the events until all rounds' have come.
async fn watch(channel: Channel, share: usize, rounds: u64, board: Arc<Board>) -> Result<Latencies> {
    let (requests, queue) = mpsc::channel(PER_STREAM);
    for _ in 0..share {
        let create = WatchCreateRequest { key: PREFIX.into(), range_end: PREFIX_END.into(), ..Default::default() };
        requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await?;
    }
    let mut client = WatchClient::new(channel);
    let mut answers = client.watch(ReceiverStream::new(queue)).await?.into_inner();
    let (mut times, mut left) = (Latencies::default(), share as u64 * rounds);
    while left > 0 {
        let answer = answers.message().await?.context("the server ended the stream")?;
        if answer.canceled {
            bail!("the server cancelled a watcher: {}", answer.cancel_reason);
        }
        if answer.created {
            board.count(&board.created);
        }
        let sent = board.sent.load(Ordering::Acquire);
        for _ in &answer.events {
            let now = board.base.elapsed().as_nanos() as u64;
            times.add(std::time::Duration::from_nanos(now.saturating_sub(sent)));
            left -= 1;
            board.count(&board.events);
        }
    }
    drop(requests);
    Ok(times)
}
