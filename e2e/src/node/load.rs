//! Clients that write and watch while members come and go, as a good client does: a call that fails is made again, over
//! a new connection, to the next member if they know more than one.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::audit::{self, Seen, Watcher};
use crate::wait;

const WRITERS: usize = 4;
/// A call without an answer by then is made again.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// Between two writes of one client: the machine is to be busy, not choked.
const PACE: Duration = Duration::from_millis(5);
const FIRST_WRITE: Duration = Duration::from_secs(30);
/// What a load must keep to where nothing is lost but a member at a time. The goal is no write made again and no gap above
/// two seconds; this leaves room for a machine that does other things, too.
pub const MOST_RETRIES: usize = 5;
pub const LONGEST_GAP: Duration = Duration::from_secs(5);

/// What is written to, and how clients are let in.
#[derive(Clone)]
pub struct Store {
    /// Members, or Services that lead to some.
    pub endpoints: Vec<String>,
    tls: Option<ClientTlsConfig>,
}

impl Store {
    pub fn plain(endpoints: Vec<String>) -> Self {
        Self { endpoints, tls: None }
    }

    pub fn at(&self, endpoint: &str) -> Result<Endpoint> {
        let endpoint = Endpoint::from_shared(endpoint.to_string())?.connect_timeout(CALL_LIMIT);
        Ok(match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone())?,
            None => endpoint,
        })
    }

    /// Lazily: it is made by the first call, and a failure is that call's.
    pub fn connect(&self, endpoint: &str) -> Result<Channel> {
        Ok(self.at(endpoint)?.timeout(CALL_LIMIT).connect_lazy())
    }
}

pub struct Load {
    store: Store,
    stop: Arc<AtomicBool>,
    written: Vec<Arc<AtomicU64>>,
    writers: Vec<JoinHandle<Written>>,
    watcher: Watcher,
}

/// What one writer was told: its writes are numbered from 1, each has a key of its own.
pub struct Written {
    pub writer: usize,
    /// The revision that each was acknowledged with.
    pub revisions: Vec<i64>,
    failed: usize,
    most_retries: usize,
    longest_gap: Duration,
}

/// What a load came to, after all it was told was found true.
pub struct Report {
    pub writes: usize,
    /// Calls that had to be made again.
    pub failed: usize,
    /// How often one of them had to be, at most.
    pub most_retries: usize,
    /// The longest that any writer waited for its next acknowledgement.
    pub longest_gap: Duration,
    written: Vec<Written>,
    seen: Seen,
}

impl Report {
    /// Fails if one write had to be made again more often, or a writer waited for longer.
    pub fn within(&self, retries: usize, gap: Duration) -> Result<()> {
        ensure!(self.most_retries <= retries, "one write was made {} times again, not {retries} at most", self.most_retries);
        ensure!(self.longest_gap <= gap, "a writer waited for {:.1?}, not {gap:.1?} at most", self.longest_gap);
        Ok(())
    }

    /// Compares again, with what is there now.
    pub async fn still_true(&self, endpoint: &str) -> Result<()> {
        audit::compare(&Store::plain(vec![endpoint.to_owned()]), &self.written, &self.seen).await
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Self { writes, failed, most_retries, longest_gap, .. } = self;
        write!(
            f,
            "{writes} writes, none lost; {failed} calls made again, one {most_retries} times at most; longest gap {longest_gap:.1?}"
        )
    }
}

impl Load {
    /// Begins; every writer has written once when this returns.
    pub async fn start(endpoint: String) -> Result<Self> {
        Self::over(vec![endpoint]).await
    }

    /// The same with certificates.
    pub async fn secured(endpoint: String, tls: ClientTlsConfig) -> Result<Self> {
        Self::on(Store { endpoints: vec![endpoint], tls: Some(tls) }).await
    }

    /// The same over several members, with the writers spread among them.
    pub async fn over(endpoints: Vec<String>) -> Result<Self> {
        Self::on(Store::plain(endpoints)).await
    }

    async fn on(store: Store) -> Result<Self> {
        let watcher = Watcher::start(&store).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let written: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let write = |(writer, written): (usize, &Arc<AtomicU64>)| {
            tokio::spawn(write(writer, store.clone(), written.clone(), stop.clone()))
        };
        let writers = written.iter().enumerate().map(write).collect();
        let load = Self { store, stop, writers, written, watcher };
        load.goes_on(1).await?;
        Ok(load)
    }

    /// Waits until every writer has written so many times more.
    pub async fn goes_on(&self, times: u64) -> Result<()> {
        let count = || self.written.iter().map(|written| written.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let begin = count();
        wait::until("every client has written", FIRST_WRITE, async || {
            Ok(count().iter().zip(&begin).all(|(now, begin)| *now >= begin + times))
        })
        .await
    }

    /// Ends the load, and compares what is there with what was acknowledged and watched.
    pub async fn stop(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for writer in self.writers {
            written.push(writer.await.context("a writer")?);
        }
        let seen = self.watcher.finish(&self.store).await?;
        audit::compare(&self.store, &written, &seen).await?;
        let report = Report {
            writes: written.iter().map(|written| written.revisions.len()).sum(),
            failed: written.iter().map(|written| written.failed).sum(),
            most_retries: written.iter().map(|written| written.most_retries).max().unwrap_or_default(),
            longest_gap: written.iter().map(|written| written.longest_gap).max().unwrap_or_default(),
            written,
            seen,
        };
        ensure!(report.writes > WRITERS, "nothing was written under load: {report}");
        Ok(report)
    }
}

pub fn key(writer: usize, number: usize) -> String {
    format!("load/{writer}/{number:08}")
}

async fn write(writer: usize, store: Store, counter: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written { writer, revisions: Vec::new(), failed: 0, most_retries: 0, longest_gap: Duration::ZERO };
    let mut endpoints = store.endpoints.iter().cycle().skip(writer);
    let mut endpoint = endpoints.next().expect("there is a member");
    let (mut kv, mut retries) = (None, 0);
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(PACE).await;
        let number = written.revisions.len() + 1;
        match put(&mut kv, &store, endpoint, &key(writer, number), &number.to_string()).await {
            Ok(revision) => {
                written.revisions.push(revision);
                written.longest_gap = written.longest_gap.max(last.elapsed());
                last = Instant::now();
                retries = 0;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            // The same write again, over a new connection: it may have been done already, which changes nothing.
            Err(error) => {
                eprintln!("writer {writer}: {number}: {error:#}");
                written.failed += 1;
                retries += 1;
                written.most_retries = written.most_retries.max(retries);
                kv = None;
                endpoint = endpoints.next().expect("there is a member");
            }
        }
    }
    written
}

async fn put(kv: &mut Option<KvClient<Channel>>, store: &Store, endpoint: &str, key: &str, value: &str) -> Result<i64> {
    let kv = match kv {
        Some(kv) => kv,
        None => kv.insert(KvClient::new(store.connect(endpoint)?)),
    };
    let request = PutRequest { key: key.to_string().into(), value: value.to_string().into(), ..Default::default() };
    let header = kv.put(request).await?.into_inner().header.context("an answer has a header")?;
    Ok(header.revision)
}
