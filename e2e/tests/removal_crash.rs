//! A crash right after compacted versions were removed brings none of them back: what the removal
//! made durable early, such as dropped files, may not outlive what it did in memory only.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{CompactionRequest, DefragmentRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use tonic::transport::Channel;

/// So many flushes make the engine merge their files into a deeper level, where files can be dropped.
const FLUSHES: usize = 4;
const MERGE_LIMIT: Duration = Duration::from_secs(20);
/// Removed in many steps.
const VERSIONS: i64 = 200;
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);

async fn connect(server: &Server) -> Result<KvClient<Channel>> {
    Ok(KvClient::connect(server.client_url()).await?)
}

async fn put(kv: &mut KvClient<Channel>, key: &'static str) -> Result<()> {
    kv.put(PutRequest { key: key.into(), value: "value".into(), ..Default::default() }).await?;
    Ok(())
}

async fn delete(kv: &mut KvClient<Channel>, key: &'static str) -> Result<i64> {
    let deleted = kv.delete_range(DeleteRangeRequest { key: key.into(), ..Default::default() }).await?;
    Ok(deleted.into_inner().header.map_or(0, |h| h.revision))
}

/// All keys at a revision, as `key@mod_revision`.
async fn keys(kv: &mut KvClient<Channel>, revision: i64) -> Result<Vec<String>> {
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() };
    let kvs = kv.range(all).await?.into_inner().kvs;
    Ok(kvs.into_iter().map(|kv| format!("{}@{}", String::from_utf8_lossy(&kv.key), kv.mod_revision)).collect())
}

/// Whether the engine has moved or merged files of the revisions table, by its logs of this run and earlier ones.
fn is_merged(state: &Path) -> Result<bool> {
    for entry in fs::read_dir(state)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LOG")) {
            let log = fs::read_to_string(path)?;
            if log.lines().any(|line| line.contains("[revisions]") && (line.contains("Moved #") || line.contains("Compacted "))) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[tokio::test]
async fn a_key_whose_versions_were_removed_stays_gone_after_a_crash() -> Result<()> {
    let mut server = Server::start(Program::Keelson, &["--log-level", "warn"]).await?;
    for _ in 0..FLUSHES {
        let mut kv = connect(&server).await?;
        for key in ["gone", "gone", "stays"] {
            put(&mut kv, key).await?;
        }
        // A clean stop flushes.
        server.stop().await?;
        server.restart().await?;
    }
    let state = server.data_dir().join("state");
    wait::until("the flushed files are merged", MERGE_LIMIT, async || is_merged(&state)).await?;

    let mut kv = connect(&server).await?;
    delete(&mut kv, "gone").await?;
    put(&mut kv, "other").await?;
    let compacted = delete(&mut kv, "other").await?;
    kv.compact(CompactionRequest { revision: compacted, physical: true }).await?;
    // Something deleted later makes reads at the compacted revision look into the history.
    delete(&mut kv, "stays").await?;
    let before = keys(&mut kv, compacted).await?;
    server.kill();
    server.restart().await?;
    let mut kv = connect(&server).await?;
    // Asks for a removal that can be waited for.
    put(&mut kv, "last").await?;
    let after = {
        let read = keys(&mut kv, compacted).await?;
        kv.compact(CompactionRequest { revision: compacted + 1, physical: true }).await?;
        put(&mut kv, "again").await?;
        delete(&mut kv, "again").await?;
        (read, keys(&mut kv, compacted + 1).await?)
    };
    assert_eq!(before, [format!("stays@{}", 3 * FLUSHES + 1)]);
    assert_eq!(after, (before, Vec::new()), "versions came back");
    Ok(())
}

/// It dies after the first step, with all of that in memory only; or in the pause after it, when that is on disk.
#[tokio::test]
async fn removal_goes_on_after_a_crash_in_its_midst() -> Result<()> {
    for place in ["compaction:1", "defragment:1"] {
        let flags = ["--compaction-batch-limit=10", "--compaction-sleep-interval=1h"];
        let mut server = Server::start(Program::Keelson, &flags).await?;
        server.kill();
        server.set_env("KEELSON_FAILPOINT", Some(place.to_owned()));
        server.restart().await?;
        let mut kv = connect(&server).await?;
        for _ in 0..VERSIONS {
            put(&mut kv, "often").await?;
        }
        // It may die before it answers.
        let _ = kv.compact(CompactionRequest { revision: VERSIONS, physical: false }).await;
        if place.starts_with("defragment") {
            let _ = MaintenanceClient::connect(server.client_url()).await?.defragment(DefragmentRequest {}).await;
        }
        wait::until("the server dies", REMOVAL_LIMIT, async || Ok(server.exit_status()?.is_some())).await?;
        server.kill();

        server.set_env("KEELSON_FAILPOINT", None);
        server.add_flag("--compaction-sleep-interval=0s");
        let before = server.log().len();
        server.restart().await?;
        let done = ["finished scheduled compaction".to_owned(), format!("\"compact-revision\":{VERSIONS}")];
        wait::until("removal comes to its end", REMOVAL_LIMIT, async || {
            Ok(server.log()[before..].lines().any(|line| done.iter().all(|part| line.contains(part))))
        })
        .await
        .with_context(|| format!("after {place}: {}", server.log_tail()))?;
        let mut kv = connect(&server).await?;
        assert_eq!(keys(&mut kv, VERSIONS).await?, [format!("often@{VERSIONS}")]);
    }
    Ok(())
}
