//! A crash in the middle of a compaction that leaves nothing of the newest revision, since that deleted a key: the
//! revision does not fall back. 17780 by the number of etcd's issue.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use tonic::transport::Channel;

/// Each step of the removal looks at one revision.
const FLAGS: [&str; 3] = ["--log-level=warn", "--compaction-batch-limit=1", "--snapshot-count=50"];
/// Puts before the deletion: so many steps there are at least.
const PUTS: usize = 6;
const LIMIT: Duration = Duration::from_secs(20);

async fn connect(server: &Server) -> Result<KvClient<Channel>> {
    Ok(KvClient::connect(server.client_url()).await?)
}

/// Some versions of a key, its deletion, and a compaction to just there, which may not be answered any more. Answers the
/// revision of the deletion.
async fn delete_last_and_compact(kv: &mut KvClient<Channel>) -> Result<i64> {
    for _ in 0..PUTS {
        kv.put(PutRequest { key: "gone".into(), value: "x".into(), ..Default::default() }).await?;
    }
    let deleted = kv.delete_range(DeleteRangeRequest { key: "gone".into(), ..Default::default() }).await?.into_inner();
    ensure!(deleted.deleted == 1);
    let revision = deleted.header.context("a header")?.revision;
    // The process may die before it has answered.
    let _ = kv.compact(CompactionRequest { revision, physical: false }).await;
    Ok(revision)
}

async fn dies(server: &mut Server) -> Result<()> {
    let mut ended = None;
    wait::until("the removal reaches the failpoint", LIMIT, async || {
        ended = server.exit_status()?;
        Ok(ended.is_some())
    })
    .await?;
    let status = ended.context("it has ended")?;
    ensure!(status.signal().is_some(), "it gave up by itself: {status}\n{}", server.log_tail());
    server.kill();
    Ok(())
}

/// The newest revision as this server has it by itself, with the number of keys.
async fn newest(server: &Server) -> Result<(i64, i64)> {
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), serializable: true, ..Default::default() };
    let found = connect(server).await?.range(all).await?.into_inner();
    Ok((found.header.context("a header")?.revision, found.count))
}

/// Writes once more, leaving no key behind, and waits until this server has removed all that is compacted: the next process
/// is to begin with nothing to remove. Answers the first revision that was written.
async fn go_on(server: &Server) -> Result<i64> {
    let mut kv = connect(server).await?;
    let put = kv.put(PutRequest { key: "next".into(), ..Default::default() }).await?.into_inner();
    let deleted = kv.delete_range(DeleteRangeRequest { key: "next".into(), ..Default::default() }).await?.into_inner();
    let revision = deleted.header.context("a header")?.revision;
    kv.compact(CompactionRequest { revision, physical: true }).await?;
    Ok(put.header.context("a header")?.revision)
}

fn arm(server: &mut Server, step: Option<usize>) {
    server.set_env("KEELSON_FAILPOINT", step.map(|step| format!("compaction:{step}")));
}

#[tokio::test]
async fn the_revision_does_not_fall_when_the_newest_one_is_compacted_away_and_the_process_dies() -> Result<()> {
    let mut server = Server::start(Program::Keelson, &FLAGS).await?;
    for step in 1..=PUTS {
        server.stop().await?;
        arm(&mut server, Some(step));
        server.restart().await?;
        let mut kv = connect(&server).await?;
        let revision = delete_last_and_compact(&mut kv).await?;
        dies(&mut server).await.with_context(|| format!("step {step}"))?;
        arm(&mut server, None);
        server.restart().await?;
        let found = newest(&server).await?;
        ensure!(found == (revision, 0), "killed in step {step} of the removal up to {revision}, it is at {found:?}");
        let next = go_on(&server).await?;
        ensure!(next == revision + 1, "revision {revision} was followed by {next}");
    }
    Ok(())
}

#[tokio::test]
async fn the_revision_does_not_fall_on_a_follower_that_dies_in_the_removal() -> Result<()> {
    let mut cluster = Cluster::start(Program::Keelson, 3, &FLAGS).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let follower = (leader + 1) % 3;
    for step in [1, PUTS / 2, PUTS] {
        cluster.members[follower].stop().await?;
        arm(&mut cluster.members[follower], Some(step));
        cluster.members[follower].restart().await?;
        let revision = delete_last_and_compact(&mut connect(&cluster.members[leader]).await?).await?;
        dies(&mut cluster.members[follower]).await.with_context(|| format!("step {step}"))?;
        arm(&mut cluster.members[follower], None);
        cluster.members[follower].restart().await?;
        let found = newest(&cluster.members[follower]).await?;
        ensure!(found == (revision, 0), "killed in step {step} of the removal up to {revision}, it is at {found:?}");
        go_on(&cluster.members[follower]).await?;
        cluster.agree(&[0, 1, 2]).await?;
    }
    Ok(())
}
