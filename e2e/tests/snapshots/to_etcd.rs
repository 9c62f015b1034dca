//! Keelson's snapshots in the hands of etcd's own tools, and of a real etcd.

use anyhow::Result;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

use super::common::{
    COMPACTED, are_equal, etcdutl_restore, etcdutl_status, fill, hash_kv, kv, prepared, put, read_all, revision, save, status,
};

#[tokio::test(flavor = "multi_thread")]
async fn etcd_runs_on_what_was_saved_from_keelson_and_has_the_hash_of_one_that_lived_through_it() -> Result<()> {
    let (keelson, etcd) = (Server::start(Program::Keelson, &[]).await?, Server::start(Program::Etcd, &[]).await?);
    fill(&keelson).await?;
    fill(&etcd).await?;
    let path = save(&keelson, "keelson.db").await?;
    let told = etcdutl_status(&path).await?;
    assert_eq!(told, status(&path).await?);
    let now = read_all(&keelson, 0).await?;
    assert_eq!((told.total_key as i64, told.version.as_str()), (now.count, "3.7.0"));
    assert_eq!(told.revision, revision(&keelson).await?);

    let mut restored = prepared(Program::Etcd, "default")?;
    etcdutl_restore(&path, &restored).await?;
    restored.restart().await?;
    // Before anything else is written.
    let newest = revision(&restored).await?;
    // At the compacted revision itself etcd tells the hash from before the compaction, as long as it remembers it.
    for at in [COMPACTED + 1, COMPACTED + 77, newest] {
        let (lived, copied) = (hash_kv(&etcd, at).await?, hash_kv(&restored, at).await?);
        assert_eq!((lived.hash, lived.compact_revision), (copied.hash, copied.compact_revision), "{at}");
    }
    are_equal(&keelson, &restored).await?;
    // Written once more by etcd itself, it is the same to both who look at it.
    let again = save(&restored, "again.db").await?;
    assert_eq!(etcdutl_status(&again).await?, status(&again).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_can_be_saved_and_restored() -> Result<()> {
    let keelson = Server::start(Program::Keelson, &[]).await?;
    let path = save(&keelson, "empty.db").await?;
    let told = etcdutl_status(&path).await?;
    assert_eq!((told.revision, told.total_key), (0, 0));
    assert_eq!(told, status(&path).await?);
    let mut restored = prepared(Program::Etcd, "default")?;
    etcdutl_restore(&path, &restored).await?;
    restored.restart().await?;
    assert_eq!(revision(&restored).await?, 1);
    Ok(())
}

/// More than is sorted in memory at a time.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_runs_on_a_snapshot_that_did_not_fit_into_memory() -> Result<()> {
    let keelson = Server::start(Program::Keelson, &[]).await?;
    let mut client = kv(&keelson).await?;
    for i in 0..130_usize {
        // Keys fall where revisions rise, so that nothing is in order by chance.
        client.put(put(format!("large/{:03}", 999 - i), vec![b'a' + (i % 26) as u8; 1_000_000 - i], 0)).await?;
        client.put(put("small", vec![b's'; i], 0)).await?;
    }
    let path = save(&keelson, "large.db").await?;
    assert_eq!(etcdutl_status(&path).await?, status(&path).await?);
    let mut restored = prepared(Program::Etcd, "default")?;
    etcdutl_restore(&path, &restored).await?;
    restored.restart().await?;
    assert!(read_all(&keelson, 0).await?.kvs == read_all(&restored, 0).await?.kvs);
    assert!(read_all(&keelson, 100).await?.kvs == read_all(&restored, 100).await?.kvs);
    Ok(())
}
