//! Keelson on what was saved from etcd, and from keelson itself.

use std::time::Duration;

use anyhow::{Context, Result};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use keelson_snapshot::RestoreOptions;

use super::common::{
    are_equal, etcdutl_status, fill, hash_kv, kv, options, prepared, put, read_all, restore, revision, save, status,
};

#[tokio::test(flavor = "multi_thread")]
async fn keelson_runs_on_what_was_saved_from_etcd() -> Result<()> {
    let etcd = Server::start(Program::Etcd, &[]).await?;
    fill(&etcd).await?;
    let path = save(&etcd, "etcd.db").await?;
    assert_eq!(etcdutl_status(&path).await?, status(&path).await?);
    let mut keelson = prepared(Program::Keelson, "default")?;
    let restored = restore(options(&path, &keelson)).await?;
    assert_eq!(restored.revision, revision(&etcd).await?);
    keelson.restart().await?;
    are_equal(&etcd, &keelson).await?;

    // What came from the snapshot is as durable as what has been written since.
    let before = read_all(&keelson, 0).await?.kvs;
    keelson.kill();
    keelson.restart().await?;
    assert!(read_all(&keelson, 0).await?.kvs == before);
    // And it can be saved again.
    let again = save(&keelson, "again.db").await?;
    assert_eq!(etcdutl_status(&again).await?, status(&again).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_on_revisions_count_as_compacted_as_they_do_in_etcd() -> Result<()> {
    let etcd = Server::start(Program::Etcd, &[]).await?;
    fill(&etcd).await?;
    let path = save(&etcd, "etcd.db").await?;
    let mut keelson = prepared(Program::Keelson, "default")?;
    let moved = RestoreOptions { bump_revision: 1_000_000, mark_compacted: true, ..options(&path, &keelson) };
    let restored = restore(moved).await?;
    keelson.restart().await?;
    let newest = revision(&etcd).await? + 1_000_000;
    assert_eq!((restored.revision, revision(&keelson).await?), (newest, newest));
    assert!(read_all(&keelson, 0).await?.kvs == read_all(&etcd, 0).await?.kvs);
    let refused = read_all(&keelson, newest - 1).await.expect_err("it is compacted");
    assert!(refused.to_string().contains("compacted"), "{refused}");
    let header = kv(&keelson).await?.put(put("after", vec![1], 0)).await?.into_inner().header;
    assert_eq!(header.context("a header")?.revision, newest + 1);
    Ok(())
}

/// As with etcd, what was restored knows its cluster: nothing but name and addresses is told when it is started.
#[tokio::test(flavor = "multi_thread")]
async fn three_members_begin_with_one_snapshot_and_are_a_cluster() -> Result<()> {
    let source = Server::start(Program::Keelson, &[]).await?;
    fill(&source).await?;
    let path = save(&source, "keelson.db").await?;
    let mut members = (0..3).map(|n| prepared(Program::Keelson, &format!("m{n}"))).collect::<Result<Vec<_>>>()?;
    let cluster: Vec<String> = members.iter().map(|m| format!("{}={}", m.name(), m.peer_url())).collect();
    let mut clusters = Vec::new();
    for member in &mut members {
        let initial_cluster = cluster.join(",");
        let restored =
            restore(RestoreOptions { initial_cluster, initial_cluster_token: "restored".into(), ..options(&path, member) })
                .await?;
        clusters.push((restored.member.cluster_id, restored.member.members.len()));
        member.find_cluster();
        member.spawn()?;
    }
    assert!(clusters.iter().all(|told| *told == clusters[0] && told.1 == 3), "{clusters:?}");
    for member in &mut members {
        member.ready().await?;
    }
    let newest = revision(&source).await?;
    for member in &members {
        assert!(read_all(member, 0).await?.kvs == read_all(&source, 0).await?.kvs);
        assert_eq!(hash_kv(member, newest).await?.hash, hash_kv(&source, newest).await?.hash);
    }
    kv(&members[0]).await?.put(put("after", vec![7], 0)).await?;
    members[0].kill();
    // Two of three go on, and the third catches up.
    wait::until("two of three take writes", Duration::from_secs(30), async || {
        Ok(kv(&members[1]).await?.put(put("alone", vec![8], 0)).await.is_ok())
    })
    .await?;
    members[0].restart().await?;
    let (one, other) = (read_all(&members[0], 0).await?, read_all(&members[2], 0).await?);
    assert!(one.kvs == other.kvs && one.kvs.iter().any(|kv| kv.key == "alone"));
    Ok(())
}
