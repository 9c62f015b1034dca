//! What comes over the wire, while others write and compact, when there is no room, and when too many ask.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{AlarmRequest, CompactionRequest, SnapshotRequest, SnapshotResponse, StatusRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::small_disk::SmallDisk;
use keelson_e2e::wait;
use rand::{RngCore, SeedableRng};
use tonic::{Code, Status};

use super::common::{fill, kv, options, prepared, put, read_all, restore, save, status};

async fn messages(server: &Server) -> Result<Vec<SnapshotResponse>, Status> {
    let connected = MaintenanceClient::connect(server.client_url()).await;
    let mut client = connected.map_err(|e| Status::unavailable(e.to_string()))?;
    let mut stream = client.snapshot(SnapshotRequest {}).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// etcd finds out some time after its start which version its storage has.
async fn knows_its_version(server: &Server) -> Result<()> {
    let mut client = MaintenanceClient::connect(server.client_url()).await?;
    wait::until("the storage has a version", Duration::from_secs(60), async || {
        Ok(!client.status(StatusRequest {}).await?.into_inner().storage_version.is_empty())
    })
    .await
}

/// etcd goes through the same.
#[tokio::test(flavor = "multi_thread")]
async fn each_message_tells_how_much_is_left_and_the_last_one_is_the_checksum() -> Result<()> {
    for program in [Program::Etcd, Program::Keelson] {
        let server = Server::start(program, &[]).await?;
        fill(&server).await?;
        knows_its_version(&server).await?;
        let messages = messages(&server).await?;
        let (sum, blobs) = messages.split_last().context("a message")?;
        let mut left: u64 = blobs.iter().map(|m| m.blob.len() as u64).sum();
        ensure!(left > 1_000_000 && left.is_multiple_of(4096), "{left} bytes");
        for (number, message) in blobs.iter().enumerate() {
            left -= message.blob.len() as u64;
            assert_eq!((message.remaining_bytes, message.version.as_str()), (left, "3.7.0"), "{program:?} {number}");
            assert!(message.header.is_none());
            let whole = message.blob.len() == 32 << 10;
            assert!(whole || number + 1 == blobs.len(), "{program:?} {number}: {}", message.blob.len());
        }
        assert_eq!((sum.blob.len(), sum.remaining_bytes, sum.version.as_str()), (32, 0, "3.7.0"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_of_one_revision_though_everything_is_written_and_compacted_meanwhile() -> Result<()> {
    let server = Server::start(Program::Keelson, &[]).await?;
    fill(&server).await?;
    let stop = tokio::sync::watch::Sender::new(false);
    let mut writer = kv(&server).await?;
    let stopped = stop.subscribe();
    let writing = tokio::spawn(async move {
        let mut written = BTreeMap::new();
        let mut number: usize = 0;
        while !*stopped.borrow() {
            let (key, value) = (format!("busy/{:02}", number % 60), vec![b'a' + (number % 26) as u8; 20_000 + number % 100]);
            let header = writer.put(put(&key, value.clone(), 0)).await?.into_inner().header;
            let revision = header.context("a header")?.revision;
            written.insert(revision, (key, value));
            if number % 20 == 19 {
                writer.compact(CompactionRequest { revision: revision - 5, physical: false }).await?;
            }
            number += 1;
        }
        anyhow::Ok(written)
    });
    let mut paths = Vec::new();
    for n in 0..4 {
        paths.push(save(&server, &format!("busy{n}.db")).await?);
    }
    stop.send_replace(true);
    let written = writing.await??;
    for path in paths {
        let told = status(&path).await?;
        let mut copy = prepared(Program::Keelson, "default")?;
        let restored = restore(options(&path, &copy)).await?;
        assert_eq!(restored.revision, told.revision);
        copy.restart().await?;
        let mut want: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (key, value) in written.range(..=told.revision).map(|(_, change)| change) {
            want.insert(key.clone().into(), value.clone());
        }
        let found = read_all(&copy, 0).await?.kvs;
        let found = found.into_iter().filter(|kv| kv.key.starts_with(b"busy/"));
        let found: BTreeMap<Vec<u8>, Vec<u8>> = found.map(|kv| (kv.key.to_vec(), kv.value.to_vec())).collect();
        assert!(found == want, "at revision {}", told.revision);
    }
    Ok(())
}

const DISK: u64 = 640 << 20;
/// What is kept free of such a disk.
const RESERVE: u64 = DISK / 5;
/// What is put in order in memory before it is written.
const RUN: u64 = 32 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_has_no_room_is_refused_and_harms_nothing() -> Result<()> {
    let disk = SmallDisk::mount(DISK)?;
    let mut server = Server::start(Program::Keelson, &[]).await?;
    server.kill();
    std::fs::remove_dir_all(server.data_dir())?;
    std::os::unix::fs::symlink(disk.data_dir()?, server.data_dir())?;
    server.restart().await?;
    let mut client = kv(&server).await?;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for i in 0..40 {
        let mut value = vec![0; 1 << 20];
        random.fill_bytes(&mut value);
        client.put(put(format!("k{i:03}"), value, 0)).await?;
    }
    // What is still to be written to the store's own files is written now.
    server.stop().await?;
    server.restart().await?;
    // Enough for the store itself, and too little for what has to be put in order.
    disk.leave(RESERVE + RUN * 3 / 4)?;
    let mut client = kv(&server).await?;
    let refused = messages(&server).await.expect_err("there is no room");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("no room for a snapshot"), "{refused}");
    let mut maintenance = MaintenanceClient::connect(server.client_url()).await?;
    let alarms = maintenance.alarm(AlarmRequest::default()).await?.into_inner().alarms;
    assert!(alarms.is_empty(), "{alarms:?}");
    client.put(put("after", vec![1], 0)).await?;
    disk.give_back()?;
    assert!(messages(&server).await.is_ok_and(|messages| messages.len() > 1200));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_snapshot_too_many_is_refused_until_another_has_ended() -> Result<()> {
    let server = Server::start(Program::Keelson, &[]).await?;
    let mut writer = kv(&server).await?;
    for i in 0..30 {
        writer.put(put(format!("k{i}"), vec![b'v'; 1 << 20], 0)).await?;
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = MaintenanceClient::connect(server.client_url()).await?;
        let mut stream = client.snapshot(SnapshotRequest {}).await?.into_inner();
        stream.message().await?.context("a first message")?;
        held.push(stream);
    }
    let refused = messages(&server).await.expect_err("all places are taken");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    drop(held.pop());
    wait::until("a place is free", Duration::from_secs(30), async || Ok(messages(&server).await.is_ok())).await
}
