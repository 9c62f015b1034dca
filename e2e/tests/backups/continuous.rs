//! Every change goes to the store, and the state of any moment comes back, while whoever takes it there is killed, the store is
//! away, or the cluster has compacted what comes next.

use anyhow::{Context, Result, ensure};
use keelson_api::authpb::UserAddOptions;
use keelson_api::etcdserverpb::auth_client::AuthClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::{AuthUserAddRequest, AuthUserListRequest, LeaseGrantRequest};
use keelson_e2e::program::Program;
use keelson_e2e::s3::S3;
use keelson_e2e::server::Server;
use keelson_e2e::wait::until;
use tokio::process::Child;
use tokio::time::timeout;

use super::common::{LIMIT, Place, compact, keys, kv, live_on, put, revision};

async fn server() -> Result<Server> {
    Server::start(Program::Keelson, &["--log-level", "warn"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn any_moment_comes_back_though_the_writer_was_killed_and_the_store_was_away() -> Result<()> {
    let mut s3 = S3::start().await?;
    let place = Place::s3(&s3);
    let server = server().await?;
    live_on(&server, 30).await?;
    let mut writer = place.follow(&server)?;
    let id = place.caught_up(&server).await?;
    let begin = revision(&server).await?;
    for _ in 0..5 {
        live_on(&server, 20).await?;
        writer.kill().await?;
        live_on(&server, 20).await?;
        writer = place.follow(&server)?;
    }
    s3.kill().await?;
    live_on(&server, 30).await?;
    s3.begin().await?;
    let mut leases = LeaseClient::connect(server.client_url()).await?;
    leases.lease_grant(LeaseGrantRequest { id: 77, ttl: 7000 }).await?;
    let mut leased = put(b"leased", 10);
    leased.lease = 77;
    kv(&server).await?.put(leased).await?;
    ensure!(place.caught_up(&server).await? == id, "another backup was begun");
    let end = revision(&server).await?;

    let verified = place.run(&["backup", "verify"], &[]).await?;
    ensure!(verified.contains(&format!("to revision {end}:")), "{verified}");
    for at in [begin, begin + 1, (begin + end) / 2, end] {
        let restored = place.restored(&["--to-revision", &at.to_string(), "--bump-revision", "0"]).await?;
        ensure!(keys(&restored, 0).await? == keys(&server, at).await?, "revision {at} came back otherwise");
        ensure!(revision(&restored).await? == at, "{at}");
        // Everything in between can be read, too.
        let middle = (begin + at) / 2;
        ensure!(keys(&restored, middle).await? == keys(&server, middle).await?, "revision {middle} within {at}");
    }
    let later = place.refused(&["restore"], &["--to-revision", &(end + 1).to_string(), "--data-dir", "never"]).await?;
    ensure!(later.contains(&end.to_string()), "{later}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_restored_to_and_one_that_nobody_knows_of_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = Place::folder(folder.path())?;
    let server = server().await?;
    live_on(&server, 10).await?;
    let _writer = place.follow(&server)?;
    place.caught_up(&server).await?;
    live_on(&server, 10).await?;
    place.caught_up(&server).await?;
    let (at, there) = (revision(&server).await?, keys(&server, 0).await?);
    // Nothing happens, and that is told.
    let last = async || Ok::<_, anyhow::Error>(place.list().await?[0]["lastTime"].as_str().context("a time")?.to_owned());
    let before = last().await?;
    let mut quiet = String::new();
    until("it is told that nothing happens", LIMIT, async || {
        quiet = last().await?;
        Ok(quiet > before)
    })
    .await?;
    live_on(&server, 10).await?;
    place.caught_up(&server).await?;
    let restored = place.restored(&["--to-time", &quiet, "--bump-revision", "0"]).await?;
    ensure!((revision(&restored).await?, keys(&restored, 0).await?) == (at, there), "at {quiet} it was otherwise");
    for unknown in ["2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
        let told = place.refused(&["restore"], &["--to-time", unknown, "--data-dir", "never"]).await?;
        ensure!(told.contains(unknown), "{told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_backup_begins_where_the_log_cannot_go_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = Place::folder(folder.path())?;
    let server = server().await?;
    live_on(&server, 10).await?;
    let mut writer = place.follow(&server)?;
    let first = place.caught_up(&server).await?;
    writer.kill().await?;
    live_on(&server, 10).await?;
    compact(&server, revision(&server).await?).await?;
    live_on(&server, 10).await?;
    let writer = place.follow(&server)?;
    let second = place.caught_up(&server).await?;
    ensure!(second > first, "{second} is not after {first}");
    ensure!(keys(&place.restored(&[]).await?, 0).await? == keys(&server, 0).await?, "other keys");

    // Another cluster under the same name and address: what was in the log is not what it has.
    drop(writer);
    let mut server = server;
    server.start_over().await?;
    live_on(&server, 60).await?;
    let _writer = place.follow(&server)?;
    let third = place.caught_up(&server).await?;
    ensure!(third > second, "{third} is not after {second}");
    ensure!(keys(&place.restored(&[]).await?, 0).await? == keys(&server, 0).await?, "other keys");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_one_ends_and_the_log_stays_whole() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = Place::folder(folder.path())?;
    let server = server().await?;
    live_on(&server, 10).await?;
    let mut one = place.follow(&server)?;
    let id = place.caught_up(&server).await?;
    let mut other = place.follow(&server)?;
    let ended = async |writer: &mut Child| -> Result<bool> { Ok(writer.try_wait()?.is_some()) };
    timeout(LIMIT, async {
        while !ended(&mut one).await? && !ended(&mut other).await? {
            live_on(&server, 5).await?;
        }
        Ok::<_, anyhow::Error>(())
    })
    .await
    .context("both go on")??;
    live_on(&server, 10).await?;
    ensure!(place.caught_up(&server).await? == id, "another backup was begun");
    place.run(&["backup", "verify"], &[]).await?;
    ensure!(ended(&mut one).await? != ended(&mut other).await?, "both have ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_users_begins_a_new_backup_and_leaves_no_gap() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = Place::folder(folder.path())?;
    let server = server().await?;
    live_on(&server, 10).await?;
    let _writer = place.follow(&server)?;
    let first = place.caught_up(&server).await?;
    let name = "alice".to_owned();
    let options = Some(UserAddOptions { no_password: true });
    let mut users = AuthClient::connect(server.client_url()).await?;
    users.user_add(AuthUserAddRequest { name, options, ..Default::default() }).await?;
    until("a new backup begins", LIMIT, async || {
        live_on(&server, 5).await?;
        Ok(place.list().await?.len() > 1)
    })
    .await?;
    until("what is between the two can be restored", LIMIT, async || {
        let listed = place.list().await?;
        let (end, begin) = (listed[0]["lastRevision"].as_i64(), listed[1]["firstRevision"].as_i64());
        Ok(begin.is_some() && end >= begin)
    })
    .await?;
    let second = place.caught_up(&server).await?;
    let listed = place.list().await?;
    ensure!(second > first && listed.iter().all(|backup| backup["trouble"].is_null()), "{listed:?}");
    let restored = place.restored(&[]).await?;
    let mut users = AuthClient::connect(restored.client_url()).await?;
    let known = users.user_list(AuthUserListRequest {}).await?.into_inner().users;
    ensure!(known == ["alice"], "{known:?}");
    Ok(())
}
