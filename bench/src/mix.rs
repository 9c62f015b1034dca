//! A closed loop of single puts and linearizable gets on our keys: each task sends its next
//! operation when the last one was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::client::{self, Random};
use crate::measure::Load;
use crate::stats::Latencies;

/// What the tasks do.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    pub tasks: usize,
    /// Operations touch keys `0..keys`, evenly.
    pub keys: u64,
    pub value: usize,
    pub read_percent: u64,
    /// Least time between the starts of a task's operations.
    pub pace: Duration,
}

#[derive(Debug, Default)]
struct Times {
    reads: Latencies,
    writes: Latencies,
}

/// A loop under way.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    start: Instant,
    tasks: JoinSet<Result<Times>>,
}

pub async fn start(endpoint: &str, mix: Mix) -> Result<Running> {
    let channels = client::connect_all(endpoint, mix.tasks.min(10)).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..mix.tasks {
        let channel = channels[task % channels.len()].clone();
        tasks.spawn(work(channel, mix, task as u64, stop.clone()));
    }
    Ok(Running { stop, start, tasks })
}

async fn work(channel: Channel, mix: Mix, seed: u64, stop: Arc<AtomicBool>) -> Result<Times> {
    let (mut kv, mut random, mut times) = (client::kv(channel), Random::new(seed), Times::default());
    // Made once: making random bytes must not compete with the server for the processor.
    let value = client::value(seed, mix.value);
    while !stop.load(Ordering::Relaxed) {
        let key = client::key(random.below(mix.keys));
        let read = random.below(100) < mix.read_percent;
        let begin = Instant::now();
        if read {
            kv.range(RangeRequest { key, ..Default::default() }).await?;
            times.reads.add(begin.elapsed());
        } else {
            kv.put(PutRequest { key, value: value.clone(), ..Default::default() }).await?;
            times.writes.add(begin.elapsed());
        }
        if !mix.pace.is_zero() {
            // A fixed rate, for loads that only keep the store changing.
            tokio::time::sleep_until((begin + mix.pace).into()).await;
        }
    }
    Ok(times)
}

impl Running {
    /// Ends the loop once its last operations were answered.
    pub async fn stop(mut self) -> Result<Load> {
        let seconds = self.start.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Times::default();
        while let Some(times) = self.tasks.join_next().await {
            let times = times??;
            all.reads.merge(times.reads);
            all.writes.merge(times.writes);
        }
        let show = |l: &mut Latencies| l.percentile(99.0).map_or("-".into(), |v| format!("{v:.2}"));
        let note = match all.reads.len() {
            0 => String::new(),
            _ => format!("reads p99 {} ms; writes p99 {} ms", show(&mut all.reads), show(&mut all.writes)),
        };
        all.reads.merge(all.writes);
        Ok(Load::of(all.reads, seconds).note(note))
    }
}

/// Runs the loop for a while.
pub async fn run_for(endpoint: &str, mix: Mix, time: Duration) -> Result<Load> {
    let running = start(endpoint, mix).await?;
    // The window over which throughput is measured.
    tokio::time::sleep(time).await;
    running.stop().await
}
