//! keelsonctl restores with etcdutl's flags: one command line, and keelson and etcd each run on what came of it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use keelson_e2e::program::{Program, keelsonctl, peer};
use keelson_e2e::server::Server;
use tokio::process::Command;

use super::common::{are_equal, fill, prepared, read_all, revision, save};

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is a text")
}

/// Restores a snapshot to be the data of `server` with the tool of its kind; what it told on stderr.
async fn restore(path: &Path, server: &Server, more: &[&str]) -> Result<String> {
    let tool = if server.program() == Program::Etcd { peer("etcdutl")? } else { keelsonctl()? };
    let (data_dir, url) = (server.data_dir(), server.peer_url());
    let cluster = format!("{}={url}", server.name());
    let mut args = vec!["snapshot", "restore", text(path)?, "--data-dir", text(&data_dir)?, "--name", server.name()];
    args.extend(["--initial-cluster", &cluster, "--initial-advertise-peer-urls", &url]);
    args.extend(more);
    let output = Command::new(tool).args(&args).env_clear().stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{args:?}: {}\n{told}", output.status);
    ensure!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_line_restores_for_keelson_and_for_etcd() -> Result<()> {
    let source = Server::start(Program::Etcd, &[]).await?;
    fill(&source).await?;
    let path = save(&source, "etcd.db").await?;
    let (mut keelson, mut etcd) = (prepared(Program::Keelson, "restored")?, prepared(Program::Etcd, "restored")?);
    let told = restore(&path, &keelson, &[]).await?;
    let newest = revision(&source).await?;
    let start = format!("keelson --name restored --data-dir {}", keelson.data_dir().display());
    ensure!(told.contains(&format!("revision {newest}, ")) && told.contains(&start), "{told}");
    restore(&path, &etcd, &[]).await?;
    keelson.restart().await?;
    etcd.restart().await?;
    are_equal(&keelson, &etcd).await
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_are_moved_on_and_a_database_without_a_checksum_is_taken() -> Result<()> {
    let mut source = Server::start(Program::Etcd, &[]).await?;
    fill(&source).await?;
    let (newest, kvs) = (revision(&source).await?, read_all(&source, 0).await?.kvs);
    source.stop().await?;
    let database = source.data_dir().join("member/snap/db");
    let more = ["--skip-hash-check", "--bump-revision", "1000", "--mark-compacted"];
    for program in [Program::Keelson, Program::Etcd] {
        let mut server = prepared(program, "moved")?;
        let refused = restore(&database, &server, &more[1..]).await;
        ensure!(refused.is_err_and(|e| format!("{e}").contains("--skip-hash-check")), "a database has no checksum");
        // etcdutl leaves what it had begun.
        if server.data_dir().exists() {
            fs::remove_dir_all(server.data_dir())?;
        }
        restore(&database, &server, &more).await?;
        server.restart().await?;
        ensure!(revision(&server).await? == newest + 1000, "{program:?}: {}", revision(&server).await?);
        ensure!(read_all(&server, 0).await?.kvs == kvs, "{program:?} has other keys");
        ensure!(read_all(&server, newest + 999).await.is_err(), "{program:?} tells what is compacted");
    }
    Ok(())
}
