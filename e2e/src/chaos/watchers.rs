//! Clients that watch for as long as the run lasts. When a stream ends, or the member behind it is silent, they
//! go on through the next member, behind the last revision they were told of. In the end each must have been told
//! everything once, in order, whole revisions at a time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Streaming;
use tonic::transport::Channel;

use super::dial;
use super::events::Events;

/// After so long without a word the stream is given up: a member that is cut off has none.
const SILENCE: Duration = Duration::from_secs(3);
/// How often progress is asked for, by default of a member that has nothing else to say.
const ASK_PROGRESS: Duration = Duration::from_millis(700);
const REST: Duration = Duration::from_millis(50);

/// What one watcher has been told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub events: Events,
    /// Everything up to here is said to have been told.
    pub progress: i64,
    /// How often the watch was begun.
    pub streams: usize,
    /// How often progress was told.
    pub progressed: usize,
    pub broken: Option<String>,
}

impl Told {
    /// Takes one response of the stream, checking it against all that came before.
    pub fn take(&mut self, response: WatchResponse) -> Result<()> {
        if response.canceled {
            bail!("the watch after revision {} is canceled: {}", self.events.newest(), response.cancel_reason);
        }
        if response.created {
            return Ok(());
        }
        let revision = response.header.as_ref().context("a watch response without a header")?.revision;
        if response.events.is_empty() {
            // A member that lags says so of itself: what the others have told is not taken back by that.
            self.progress = self.progress.max(revision);
            self.progressed += 1;
            return Ok(());
        }
        let before = self.events.newest();
        self.events.take(response)?;
        let (first, _) = self.events.after(before).next().context("the events that were just told")?;
        ensure!(first > self.progress, "an event of revision {first} is told after progress {}", self.progress);
        ensure!(revision >= self.events.newest(), "a response of revision {revision} tells of {}", self.events.newest());
        Ok(())
    }
}

pub struct Watcher {
    pub prefix: String,
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins with the member of number `first`.
    pub fn start(urls: Vec<String>, first: usize, prefix: &str, rng: StdRng) -> Self {
        let told: Arc<Mutex<Told>> = Arc::default();
        let prefix = prefix.to_owned();
        let task = tokio::spawn(follow(urls, first, prefix.clone(), told.clone(), rng));
        Self { prefix, told, task }
    }

    pub fn newest(&self) -> i64 {
        self.told.lock().events.newest()
    }

    pub fn broken(&self) -> Option<String> {
        self.told.lock().broken.clone()
    }

    pub fn told(&self) -> Told {
        self.told.lock().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(urls: Vec<String>, first: usize, prefix: String, told: Arc<Mutex<Told>>, mut rng: StdRng) {
    for number in first.. {
        let url = &urls[number % urls.len()];
        // Streams end when members do; what must not be is in `broken`.
        let _ = one_stream(url, &prefix, &told, &mut rng).await;
        if told.lock().broken.is_some() {
            return;
        }
        tokio::time::sleep(REST).await;
    }
}

struct Stream {
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

async fn open(url: &str, prefix: &str, start_revision: i64) -> Result<Stream> {
    let mut client: WatchClient<Channel> = WatchClient::new(dial::lazily(url)?).max_decoding_message_size(1 << 30);
    let (requests, outgoing) = mpsc::unbounded_channel();
    let mut range_end = prefix.as_bytes().to_vec();
    match range_end.last_mut() {
        Some(last) => *last += 1,
        None => range_end = vec![0],
    }
    let key = if prefix.is_empty() { vec![0] } else { prefix.as_bytes().to_vec() };
    let create = WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision,
        progress_notify: true,
        ..Default::default()
    };
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
    let outgoing = tokio_stream::wrappers::UnboundedReceiverStream::new(outgoing);
    let responses = tokio::time::timeout(SILENCE, client.watch(outgoing)).await??.into_inner();
    Ok(Stream { requests, responses })
}

async fn one_stream(url: &str, prefix: &str, told: &Mutex<Told>, rng: &mut StdRng) -> Result<()> {
    // Who was told of progress may go on from there: there is nothing in between.
    let from = {
        let told = told.lock();
        let newest = told.events.newest();
        1 + if rng.random_bool(0.5) { newest.max(told.progress) } else { newest }
    };
    let mut stream = open(url, prefix, from).await?;
    told.lock().streams += 1;
    // Some streams end for no reason but to be begun again.
    let left = Duration::from_secs(rng.random_range(4..20));
    let end = tokio::time::Instant::now() + left;
    let mut silent_since = tokio::time::Instant::now();
    while tokio::time::Instant::now() < end && silent_since.elapsed() < SILENCE {
        let ask = WatchProgressRequest {};
        match tokio::time::timeout(ASK_PROGRESS, stream.responses.message()).await {
            Ok(response) => {
                let response = response?.context("the stream has ended")?;
                silent_since = tokio::time::Instant::now();
                let mut told = told.lock();
                if let Err(e) = told.take(response) {
                    told.broken = Some(format!("{url}, {prefix:?}: {e:#}"));
                    return Ok(());
                }
            }
            Err(_) => stream.requests.send(WatchRequest { request_union: Some(RequestUnion::ProgressRequest(ask)) })?,
        }
    }
    Ok(())
}

/// Everything that one member tells, after the revision that it is compacted to and up to `newest`. Writes whose clients
/// have given up on them may come after it still.
pub async fn whole_story(url: &str, compacted: i64, newest: i64) -> Result<Events> {
    let mut stream = open(url, "", compacted + 1).await?;
    let mut told = Told::default();
    while told.events.newest() < newest {
        let response = tokio::time::timeout(SILENCE * 5, stream.responses.message()).await;
        let response = response.with_context(|| format!("{url} tells no more after {}", told.events.newest()))??;
        told.take(response.context("the stream has ended")?)?;
    }
    Ok(told.events.until(newest))
}
