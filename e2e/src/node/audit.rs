//! What must be true after a load: every acknowledged write is there, and a watch was told of every change once, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchRequest};
use keelson_api::mvccpb::KeyValue;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

use super::load::{Store, Written, key};
use crate::wait;

const PREFIX: &str = "load/";
const PREFIX_END: &str = "load0";
const LIMIT: Duration = Duration::from_secs(60);
const MAX_MESSAGE: usize = 1 << 30;
/// Between two attempts to watch.
const AGAIN: Duration = Duration::from_millis(50);

/// Revision and key of each event, in the order in which they came.
pub type Seen = Vec<(i64, Vec<u8>)>;

#[derive(Default)]
struct State {
    seen: Seen,
    /// What was told that must never be.
    broken: Option<String>,
}

/// A watch that goes on, over another connection, where it broke off.
pub struct Watcher {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Watcher {
    pub async fn start(store: &Store) -> Result<Self> {
        let begin = range(store).await?.0 + 1;
        let (state, store) = (Arc::new(Mutex::new(State::default())), store.clone());
        let shared = state.clone();
        let task = tokio::spawn(async move {
            for endpoint in store.endpoints.iter().cycle() {
                if shared.lock().broken.is_some() {
                    return;
                }
                let from = shared.lock().seen.last().map_or(begin, |(revision, _)| revision + 1);
                if let Err(error) = watch(&store, endpoint, from, &shared).await {
                    eprintln!("watch from {from}: {error:#}");
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Ok(Self { state, task })
    }

    /// Waits until it has been told of everything that there is.
    pub async fn finish(self, store: &Store) -> Result<Seen> {
        let newest = range(store).await?.1.iter().map(|kv| kv.mod_revision).max().unwrap_or(0);
        let told = wait::until("the watch has seen everything", LIMIT, async || {
            let state = self.state.lock();
            Ok(state.broken.is_some() || state.seen.last().is_some_and(|(revision, _)| *revision >= newest))
        })
        .await;
        self.task.abort();
        let state = std::mem::take(&mut *self.state.lock());
        if let Some(broken) = state.broken {
            bail!("{broken}");
        }
        told.with_context(|| format!("it is at {:?}, not at {newest}", state.seen.last().map(|(revision, _)| revision)))?;
        Ok(state.seen)
    }
}

async fn watch(store: &Store, endpoint: &str, from: i64, state: &Mutex<State>) -> Result<()> {
    // Without a limit on the call: a watch lasts. Pings find out that the other side is gone.
    let channel = store
        .at(endpoint)?
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(2))
        .connect()
        .await?;
    let create =
        WatchCreateRequest { key: PREFIX.into(), range_end: PREFIX_END.into(), start_revision: from, ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut events = WatchClient::new(channel).max_decoding_message_size(MAX_MESSAGE).watch(requests).await?.into_inner();
    while let Some(response) = events.next().await {
        let response = response?;
        let mut state = state.lock();
        if response.canceled || response.compact_revision != 0 {
            state.broken = Some(format!("a watch from {from} was cancelled: {response:?}"));
            return Ok(());
        }
        for kv in response.events.into_iter().filter_map(|event| event.kv) {
            let last = state.seen.last().map_or(from - 1, |(revision, _)| *revision);
            if kv.mod_revision <= last {
                state.broken = Some(format!("a watch was told of revision {} after {last}", kv.mod_revision));
                return Ok(());
            }
            state.seen.push((kv.mod_revision, kv.key.to_vec()));
        }
    }
    bail!("the stream ended")
}

/// The store's revision, and everything that the load has written.
async fn range(store: &Store) -> Result<(i64, Vec<KeyValue>)> {
    let request = RangeRequest { key: PREFIX.into(), range_end: PREFIX_END.into(), ..Default::default() };
    let (mut answer, mut why) = (None, String::new());
    let mut endpoints = store.endpoints.iter().cycle();
    let answered = wait::until("the store answers", LIMIT, async || {
        let mut kv =
            KvClient::new(store.connect(endpoints.next().context("no member to ask")?)?).max_decoding_message_size(MAX_MESSAGE);
        match kv.range(request.clone()).await {
            Ok(response) => answer = Some(response.into_inner()),
            Err(status) => why = status.to_string(),
        }
        Ok(answer.is_some())
    })
    .await;
    answered.context(why)?;
    let answer = answer.context("just answered")?;
    Ok((answer.header.context("an answer has a header")?.revision, answer.kvs))
}

/// Fails if an acknowledged write is not there, or the watch was not told of exactly what happened.
pub async fn compare(store: &Store, written: &[Written], seen: &Seen) -> Result<()> {
    let kvs: BTreeMap<_, _> = range(store).await?.1.into_iter().map(|kv| (kv.key.to_vec(), kv)).collect();
    for written in written {
        for (i, revision) in written.revisions.iter().enumerate() {
            let key = key(written.writer, i + 1);
            let kv = kvs.get(key.as_bytes()).with_context(|| format!("{key}, acknowledged at {revision}, is lost"))?;
            ensure!(kv.value == (i + 1).to_string().as_bytes(), "{key} is {:?}", kv.value);
            ensure!(kv.mod_revision >= *revision, "{key} was acknowledged at {revision} and is from {}", kv.mod_revision);
        }
    }
    // A key has as many versions as it was written times.
    let mut told: BTreeMap<&[u8], (i64, i64)> = BTreeMap::new();
    for (revision, key) in seen {
        let (count, last) = told.entry(key).or_default();
        (*count, *last) = (*count + 1, *revision);
    }
    for (key, kv) in &kvs {
        let told = told.get(key.as_slice()).copied().unwrap_or_default();
        let name = String::from_utf8_lossy(key);
        ensure!(told == (kv.version, kv.mod_revision), "the watch was told of {name} {told:?}; it is {kv:?}");
    }
    ensure!(told.len() == kvs.len(), "the watch was told of {} keys, there are {}", told.len(), kvs.len());
    Ok(())
}
