//! One backup after the other, in an S3 server and in a folder.

use std::fs;

use anyhow::{Result, ensure};
use futures::{StreamExt, stream};
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{WatchCreateRequest, WatchRequest};
use keelson_e2e::program::Program;
use keelson_e2e::s3::S3;
use keelson_e2e::server::Server;

use super::common::{Place, keys, kv, live_on, put, revision};

const BUMP: i64 = 1_000_000_000;

/// Makes backups of a server of whatever kind, and restores them.
async fn there_and_back(place: &Place, program: Program) -> Result<()> {
    let server = Server::start(program, &["--log-level", "warn"]).await?;
    live_on(&server, 50).await?;
    // Of more than one part.
    for i in 0..30 {
        kv(&server).await?.put(put(format!("large/{i:02}").as_bytes(), 1_200_000 + i)).await?;
    }
    let first = place.create(&server, &[]).await?;
    let (before, there) = (revision(&server).await?, keys(&server, 0).await?);
    ensure!(first["state"] == "complete" && first["lastRevision"] == before, "{first}");
    ensure!(first["keys"].as_u64() == Some(there.len() as u64), "{first}");
    live_on(&server, 20).await?;
    let second = place.create(&server, &[]).await?;
    let listed = place.list().await?;
    ensure!(listed.iter().map(|b| &b["id"]).eq([&first["id"], &second["id"]]), "{listed:?}");
    let verified = place.run(&["backup", "verify"], &[]).await?;
    ensure!(verified.contains(second["id"].as_str().unwrap_or("-")), "{verified}");
    let has_sum = verified.contains("the sum that the member told");
    ensure!(has_sum == (program == Program::Keelson), "{verified}");

    let newest = place.restored(&[]).await?;
    ensure!(keys(&newest, 0).await? == keys(&server, 0).await?, "the newest backup has other keys");
    ensure!(revision(&newest).await? == revision(&server).await? + BUMP, "{}", revision(&newest).await?);
    let older = place.restored(&["--to-revision", &before.to_string(), "--bump-revision", "0"]).await?;
    ensure!(keys(&older, 0).await? == there && revision(&older).await? == before, "the older backup has other keys");

    // Who watched the old cluster, up to a revision that the backup no longer knows, has to list anew.
    let create = WatchCreateRequest { key: "key/00".into(), start_revision: before + 5000, ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut client = WatchClient::connect(newest.client_url()).await?;
    // A stream of requests that ends would end the answers.
    let requests = stream::once(async { request }).chain(stream::pending());
    let mut answers = client.watch(requests).await?.into_inner();
    let mut compacted = 0;
    while let Some(answer) = answers.message().await? {
        compacted = answer.compact_revision;
        if answer.canceled {
            break;
        }
    }
    ensure!(compacted == revision(&newest).await?, "{compacted}");

    let third = place.create(&server, &["--keep", "2"]).await?;
    let left = place.list().await?;
    ensure!(left.iter().map(|b| &b["id"]).eq([&second["id"], &third["id"]]), "{left:?}");
    let id = second["id"].as_str().unwrap_or("-");
    ensure!(place.run(&["backup", "delete"], &[id, "--dry-run"]).await?.trim() == id, "it would be deleted");
    place.run(&["backup", "delete"], &[id]).await?;
    ensure!(place.list().await?.len() == 1, "{:?}", place.list().await?);
    ensure!(place.refused(&["backup", "delete"], &[id]).await?.contains("there is no backup"), "it is gone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_in_s3_are_restored_verified_and_deleted() -> Result<()> {
    let s3 = S3::start().await?;
    there_and_back(&Place::s3(&s3), Program::Keelson).await
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_etcd_in_a_folder_are_restored_to_keelson() -> Result<()> {
    let folder = tempfile::tempdir()?;
    there_and_back(&Place::folder(folder.path())?, Program::Etcd).await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_restored_from_one_backup_to_one_revision_or_not_at_all() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = Place::folder(folder.path())?;
    let server = Server::start(Program::Keelson, &["--log-level", "warn"]).await?;
    live_on(&server, 10).await?;
    let backup = place.create(&server, &[]).await?;
    let data_dir = server.file("member-a");
    let data_dir = data_dir.to_str().unwrap_or("-");
    let args = ["--data-dir", data_dir, "--name", "a", "--initial-cluster", "a=http://127.0.0.1:1,b=http://127.0.0.1:2"];
    let args = [&args[..], &["--initial-advertise-peer-urls", "http://127.0.0.1:1"]].concat();
    let told = place.refused(&["restore"], &args).await?;
    let (id, at) = (backup["id"].as_str().unwrap_or("-"), revision(&server).await?.to_string());
    ensure!(told.contains(&format!("--backup {id} --to-revision {at}")), "{told}");
    ensure!(!fs::exists(data_dir)?, "nothing was made");
    place.run(&["restore"], &[&args[..], &["--backup", id, "--to-revision", &at]].concat()).await?;
    let again = place.refused(&["restore"], &[&args[..], &["--backup", id, "--to-revision", &at]].concat()).await?;
    ensure!(again.contains(data_dir), "a directory that holds something is left alone: {again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_gives_back_damaged_or_does_not_have_is_told() -> Result<()> {
    let s3 = S3::start().await?;
    let place = Place::s3(&s3);
    let server = Server::start(Program::Keelson, &["--log-level", "warn"]).await?;
    live_on(&server, 10).await?;
    let nothing = place.refused(&["backup", "verify"], &[]).await?;
    ensure!(nothing.contains("no complete backup"), "{nothing}");
    let backup = place.create(&server, &[]).await?;
    let snapshot = s3.bucket().join("one/cluster").join(backup["id"].as_str().unwrap_or("-")).join("snapshot.db");
    let mut bytes = fs::read(&snapshot)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&snapshot, &bytes)?;
    let damaged = place.refused(&["backup", "verify"], &[]).await?;
    ensure!(damaged.contains("damaged"), "{damaged}");
    let wrong = place.refused(&["backup", "list"], &["--store-option", "secret_access_key=other"]).await?;
    ensure!(wrong.contains("Error: cannot list"), "{wrong}");
    Ok(())
}
