//! Members that are killed under high load, one after the other and again: the position in the log and the data go
//! together on each, so that all have the same data at every revision. 13766 by the number of etcd's issue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::PutRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::chaos::dial;
use keelson_e2e::wait;

use super::{LIMIT, limited, three};

/// After an error.
const REST: Duration = Duration::from_millis(20);
const KILLS: usize = 6;
/// Writers for each member.
const WRITERS: usize = 16;
/// Writes between one kill and the next.
const WRITES: u64 = 2000;
const KEYS: u64 = 200;
/// How far back hashes are compared, beside now.
const BACK: [i64; 4] = [1, 100, 1000, 5000];

async fn write(url: String, count: Arc<AtomicU64>, end: Arc<AtomicBool>) -> Result<()> {
    let mut kv = KvClient::new(dial::lazily(&url)?);
    while !end.load(Ordering::Relaxed) {
        let number = count.load(Ordering::Relaxed);
        let key = format!("key/{}", number % KEYS);
        let put = PutRequest { key: key.into(), value: number.to_string().into(), ..Default::default() };
        match kv.put(limited(put)).await {
            Ok(_) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            // Its member is dead.
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_killed_under_load_have_equal_data_at_every_revision() -> Result<()> {
    let mut cluster = three(&[]).await?;
    let (count, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let urls: Vec<String> = cluster.members.iter().map(|member| member.client_url()).collect();
    let writers: Vec<_> = urls
        .iter()
        .flat_map(|url| (0..WRITERS).map(move |_| url.clone()))
        .map(|url| tokio::spawn(write(url, count.clone(), end.clone())))
        .collect();
    for kill in 0..KILLS {
        let before = count.load(Ordering::Relaxed);
        wait::until("there is load", LIMIT, async || Ok(count.load(Ordering::Relaxed) >= before + WRITES)).await?;
        // The leader is among them, whoever it is.
        let member = &mut cluster.members[kill % 3];
        member.kill();
        member.restart().await.with_context(|| format!("kill {kill}"))?;
    }
    end.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    cluster.agree(&[0, 1, 2]).await?;
    let newest = cluster.status(0).await?.header.context("a header")?.revision;
    ensure!(newest > 5000, "only {newest} revisions: that is no load");
    for back in BACK {
        let hashes = cluster.hashes(&[0, 1, 2], newest - back).await?;
        let hashes: Vec<_> = hashes.iter().map(|h| (h.hash, h.hash_revision, h.compact_revision)).collect();
        ensure!(hashes.windows(2).all(|h| h[0] == h[1]), "{back} revisions ago the members differed: {hashes:?}");
    }
    Ok(())
}
