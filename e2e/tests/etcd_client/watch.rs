//! Watches: a cache that follows a prefix, also over a lost connection and a compaction.

use anyhow::{Context, Result, ensure};
use etcd_client::{CompactionOptions, DeleteOptions, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream};

use super::{LIMIT, connect, start};

async fn next(watch: &mut WatchStream) -> Result<WatchResponse> {
    let message = tokio::time::timeout(LIMIT, watch.message()).await.context("no response")?;
    message?.context("the watch has ended")
}

/// Reads until so many events came: revision and key of each.
async fn events(watch: &mut WatchStream, count: usize) -> Result<Vec<(i64, String)>> {
    let mut out = Vec::new();
    while out.len() < count {
        for event in next(watch).await?.events() {
            let kv = event.kv().context("an event without a key")?;
            out.push((kv.mod_revision(), kv.key_str()?.to_owned()));
        }
    }
    Ok(out)
}

#[tokio::test]
async fn a_watcher_resumes_after_a_crash_without_a_gap_or_a_repetition() -> Result<()> {
    let (mut server, mut client) = start().await?;
    let options = || WatchOptions::new().with_prefix();
    let mut watch = client.watch("w/", Some(options())).await?;
    for i in 0..10 {
        client.put(format!("w/{i}"), "", None).await?;
    }
    let mut seen = events(&mut watch, 10).await?;
    server.kill();
    ensure!(watch.message().await.map_or(true, |message| message.is_none()), "the watch must end with the server");
    server.restart().await?;
    for i in 10..20 {
        client.put(format!("w/{i}"), "", None).await?;
    }
    let mut client = connect(&server).await?;
    let from = seen.last().context("nothing was seen")?.0 + 1;
    let mut watch = client.watch("w/", Some(options().with_start_revision(from))).await?;
    seen.extend(events(&mut watch, 10).await?);
    assert_eq!(seen, (0..20).map(|i| (i + 2, format!("w/{i}"))).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_watcher_is_told_what_it_asked_for_and_nothing_else() -> Result<()> {
    let (_server, mut client) = start().await?;
    client.put("f/a", "old", None).await?;
    let only_deletes = WatchOptions::new().with_prefix().with_prev_key().with_filters([WatchFilterType::NoPut]);
    let mut watch = client.watch("f/", Some(only_deletes)).await?;
    ensure!(next(&mut watch).await?.created());
    client.put("f/a", "new", None).await?;
    client.put("other", "", None).await?;
    client.delete("f/", Some(DeleteOptions::new().with_prefix())).await?;
    let response = next(&mut watch).await?;
    let [event] = response.events() else { anyhow::bail!("{response:?}") };
    assert_eq!(event.event_type(), EventType::Delete);
    assert_eq!(event.prev_kv().context("what was deleted")?.value_str()?, "new");
    assert_eq!(event.kv().context("the key")?.value(), b"");
    Ok(())
}

#[tokio::test]
async fn one_stream_carries_many_watches_until_each_is_cancelled() -> Result<()> {
    let (_server, mut client) = start().await?;
    let mut watch = client.watch("one", Some(WatchOptions::new().with_watch_id(5))).await?;
    let created = next(&mut watch).await?;
    assert_eq!((created.created(), created.watch_id()), (true, 5));
    watch.watch("two", Some(WatchOptions::new().with_watch_id(6))).await?;
    assert_eq!(next(&mut watch).await?.watch_id(), 6);
    watch.watch("three", Some(WatchOptions::new().with_watch_id(6))).await?;
    let twice = next(&mut watch).await?;
    assert_eq!((twice.canceled(), twice.watch_id()), (true, -1));
    assert_eq!(twice.cancel_reason(), "mvcc: duplicate watch ID provided on the WatchStream");

    let revision = client.put("two", "", None).await?.header().context("header")?.revision();
    let told = next(&mut watch).await?;
    assert_eq!((told.watch_id(), told.events().len()), (6, 1));
    watch.request_progress().await?;
    let progress = next(&mut watch).await?;
    assert_eq!((progress.watch_id(), progress.events().len()), (-1, 0));
    ensure!(progress.header().context("header")?.revision() >= revision, "told less progress than it made");

    watch.cancel(6).await?;
    let cancelled = next(&mut watch).await?;
    assert_eq!((cancelled.canceled(), cancelled.watch_id()), (true, 6));
    client.put("two", "", None).await?;
    client.put("one", "", None).await?;
    assert_eq!(next(&mut watch).await?.watch_id(), 5, "a watch that was cancelled went on");
    Ok(())
}

#[tokio::test]
async fn a_watcher_from_before_a_compaction_learns_where_history_begins() -> Result<()> {
    let (_server, mut client) = start().await?;
    for _ in 0..5 {
        client.put("c", "", None).await?;
    }
    client.compact(5, Some(CompactionOptions::new().with_physical())).await?;
    let mut watch = client.watch("c", Some(WatchOptions::new().with_start_revision(2))).await?;
    ensure!(next(&mut watch).await?.created());
    let response = next(&mut watch).await?;
    assert_eq!((response.canceled(), response.compact_revision()), (true, 5));
    let mut watch = client.watch("c", Some(WatchOptions::new().with_start_revision(response.compact_revision()))).await?;
    assert_eq!(events(&mut watch, 2).await?, [(5, "c".to_owned()), (6, "c".to_owned())]);
    Ok(())
}
