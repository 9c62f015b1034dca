//! What operators and clients do beside reading and writing, for as long as the run lasts: history is compacted, files are
//! rewritten, and a lease is kept alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{CompactionRequest, DefragmentRequest, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest};
use tokio::task::JoinHandle;

use super::dial;
use super::watchers::Watcher;

/// The key of the lease that is kept alive, with its own name as its value.
pub const KEPT_KEY: &str = "kept";
/// In seconds: longer than any fault keeps all members from hearing of a renewal.
const TTL: i64 = 30;
/// Between renewals.
const RENEW: Duration = Duration::from_millis(500);
/// Between compactions.
const EVERY: Duration = Duration::from_secs(2);
/// Revisions that are left by a compaction, of those that all watchers have been told of.
const LEFT: i64 = 500;
/// A member that is down or cut off does not answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Goes on until it is told to finish.
pub struct Upkeep {
    stop: Arc<AtomicBool>,
    compacting: JoinHandle<()>,
    keeping: JoinHandle<Result<()>>,
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.compacting.abort();
        self.keeping.abort();
    }
}

impl Upkeep {
    /// Begins on a cluster that is well. Answers the revision of the leased key, too.
    pub async fn start(urls: Vec<String>, watchers: Arc<Vec<Watcher>>) -> Result<(Self, i64)> {
        let stop = Arc::new(AtomicBool::new(false));
        let channel = dial::lazily(urls.first().context("a member")?)?;
        let granted = LeaseClient::new(channel.clone()).lease_grant(LeaseGrantRequest { ttl: TTL, id: 0 }).await?.into_inner();
        let put = PutRequest { key: KEPT_KEY.into(), value: KEPT_KEY.into(), lease: granted.id, ..Default::default() };
        let revision = KvClient::new(channel).put(put).await?.into_inner().header.context("a header")?.revision;
        let keeping = tokio::spawn(keep(urls.clone(), granted.id, stop.clone()));
        let compacting = tokio::spawn(compact(urls, watchers, stop.clone()));
        Ok((Self { stop, compacting, keeping }, revision))
    }

    /// Ends it, once all members are well again; fails if the lease was ever told to be gone.
    pub async fn finish(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.compacting).await?;
        (&mut self.keeping).await?
    }
}

async fn compact(urls: Vec<String>, watchers: Arc<Vec<Watcher>>, stop: Arc<AtomicBool>) {
    for url in urls.iter().cycle() {
        tokio::time::sleep(EVERY).await;
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let told = watchers.iter().map(Watcher::newest).min().unwrap_or(0);
        if told > LEFT {
            // Whoever is asked may be down.
            let _ = tokio::time::timeout(LIMIT, compact_to(url, told - LEFT)).await;
        }
    }
}

async fn compact_to(url: &str, revision: i64) -> Result<()> {
    let channel = dial::lazily(url)?;
    KvClient::new(channel.clone()).compact(CompactionRequest { revision, physical: false }).await?;
    MaintenanceClient::new(channel).defragment(DefragmentRequest {}).await?;
    Ok(())
}

async fn keep(urls: Vec<String>, id: i64, stop: Arc<AtomicBool>) -> Result<()> {
    for url in urls.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if let Ok(Ok(left)) = tokio::time::timeout(LIMIT, renew(url, id)).await {
            ensure!(left > 0, "{url} says that a lease is gone which was kept alive all the time");
        }
        tokio::time::sleep(RENEW).await;
    }
    Ok(())
}

async fn renew(url: &str, id: i64) -> Result<i64> {
    let keep = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut kept = LeaseClient::new(dial::lazily(url)?).lease_keep_alive(keep).await?.into_inner();
    Ok(kept.message().await?.context("an answer")?.ttl)
}
