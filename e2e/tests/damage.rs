//! A data directory that cannot be trusted or used is refused with an error that says what is wrong
//! and what to do; only the torn tail that a crash leaves is repaired.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{PutRequest, RangeRequest};
use keelson_api::exit;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;

const KEYS: usize = 50;

async fn start() -> Result<Server> {
    Server::start(Program::Keelson, &["--log-level", "warn"]).await
}

/// A killed server whose log holds `KEYS` puts.
async fn killed_with_data() -> Result<Server> {
    let mut server = start().await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    for i in 0..KEYS {
        let put = PutRequest { key: format!("k/{i:02}").into(), value: vec![b'v'; 1000].into(), ..Default::default() };
        kv.put(put).await?;
    }
    server.kill();
    Ok(server)
}

/// Says that no start on this data will go well.
fn assert_corrupt(server: &mut Server) -> Result<()> {
    assert_eq!(server.exit_status()?.and_then(|status| status.code()), Some(i32::from(exit::CORRUPT)));
    Ok(())
}

async fn count(server: &Server) -> Result<usize> {
    let mut kv = KvClient::connect(server.client_url()).await?;
    let range = RangeRequest { key: "k/".into(), range_end: "k0".into(), count_only: true, ..Default::default() };
    Ok(usize::try_from(kv.range(range).await?.into_inner().count)?)
}

/// Starts a server that must refuse to; what it says, on one line each.
async fn refusal(server: &mut Server) -> Result<String> {
    server.restart().await.expect_err("the server must not start");
    let status = server.exit_status()?.context("the server must end by itself")?;
    assert!(status.code().is_some_and(|code| code != 0), "ended with {status}");
    Ok(server.log())
}

fn assert_says(log: &str, parts: &[&str]) {
    for part in parts {
        assert!(log.contains(part), "{part:?} is not in:\n{log}");
    }
}

/// Files of a directory with an extension, the largest last.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|e| e == extension) {
            files.push((entry.metadata()?.len(), entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn largest(dir: &Path, extension: &str) -> Result<PathBuf> {
    files(dir, extension)?.pop().with_context(|| format!("no .{extension} in {}", dir.display()))
}

/// The log's only segment, and how much of it is written: zeros follow.
fn segment(server: &Server) -> Result<(PathBuf, usize)> {
    let path = largest(&server.data_dir().join("log"), "seg")?;
    let used = fs::read(&path)?.iter().rposition(|byte| *byte != 0).context("an empty segment")? + 1;
    Ok((path, used))
}

#[tokio::test]
async fn a_log_whose_last_write_was_torn_is_repaired() -> Result<()> {
    for more_sectors in [0, 1] {
        let mut server = killed_with_data().await?;
        let (newest, used) = segment(&server)?;
        let mut bytes = fs::read(&newest)?;
        let from = ((used - 1) / 512 - more_sectors) * 512;
        bytes[from..].fill(0);
        fs::write(&newest, bytes)?;
        let torn = used - from;
        server.restart().await.with_context(|| format!("{torn} bytes torn off"))?;
        let left = count(&server).await?;
        assert_eq!(left, KEYS - 1, "{torn} bytes were torn off");
    }
    Ok(())
}

#[tokio::test]
async fn damage_before_the_tail_of_the_log_is_refused() -> Result<()> {
    for share in [0.1, 0.3, 0.6] {
        let mut server = killed_with_data().await?;
        let (path, used) = segment(&server)?;
        let mut bytes = fs::read(&path)?;
        // What lies before the first frame is not used.
        let at = 4096 + ((used - 4096) as f64 * share) as usize;
        bytes[at] ^= 0x10;
        fs::write(&path, bytes)?;
        let says = refusal(&mut server).await?;
        assert_corrupt(&mut server)?;
        assert_says(&says, &[&path.display().to_string(), "is damaged", "restore a backup", "remove this member"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_log_with_a_file_missing_is_refused() -> Result<()> {
    let mut server = killed_with_data().await?;
    server.restart().await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    // Enough for the log to go on in a third file before the first is let go.
    for i in 0..40 {
        let put = PutRequest { key: format!("large/{i}").into(), value: vec![b'v'; 1 << 20].into(), ..Default::default() };
        kv.put(put).await?;
    }
    server.kill();
    let mut segments = files(&server.data_dir().join("log"), "seg")?;
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    fs::remove_file(&segments[1])?;
    let says = refusal(&mut server).await?;
    assert_corrupt(&mut server)?;
    assert_says(&says, &[&segments[1].display().to_string(), "missing"]);
    Ok(())
}

/// With etcd beside it: what was written is there after a restart, and a disk that is missing is not begun anew.
#[tokio::test]
async fn a_log_on_another_disk_is_found_again_or_missed() -> Result<()> {
    for program in [Program::Etcd, Program::under_test()?] {
        let disk = tempfile::tempdir()?;
        let wal = disk.path().join("wal");
        let flag = format!("--wal-dir={}", wal.display());
        let mut server = Server::start(program, &[&flag]).await?;
        let mut kv = KvClient::connect(server.client_url()).await?;
        kv.put(PutRequest { key: "k".into(), value: "v".into(), ..Default::default() }).await?;
        assert!(fs::read_dir(&wal)?.next().is_some(), "the log of {} is elsewhere", program.name());
        server.kill();
        server.restart().await?;
        let mut kv = KvClient::connect(server.client_url()).await?;
        let found = kv.range(RangeRequest { key: "k".into(), ..Default::default() }).await?.into_inner();
        assert_eq!(found.count, 1, "{}", program.name());
        server.kill();
        if program == Program::Keelson {
            fs::rename(&wal, disk.path().join("gone"))?;
            let says = refusal(&mut server).await?;
            assert_says(&says, &[&wal.display().to_string(), "cannot be reached"]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_data_of_etcd_is_refused_and_left_alone() -> Result<()> {
    let mut server = start().await?;
    server.kill();
    let data = server.data_dir();
    fs::remove_dir_all(&data)?;
    fs::create_dir_all(data.join("member/wal"))?;
    let says = refusal(&mut server).await?;
    assert_says(&says, &[&data.display().to_string(), "another program", "etcdctl snapshot save"]);
    assert_eq!(fs::read_dir(&data)?.count(), 1, "nothing was added");
    Ok(())
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_refused() -> Result<()> {
    let mut server = start().await?;
    server.kill();
    let data = server.data_dir();
    fs::remove_dir_all(&data)?;
    // Permission bits do not hold root back; nobody can make files in /sys.
    std::os::unix::fs::symlink("/sys", &data)?;
    let says = refusal(&mut server).await?;
    assert_says(&says, &[&data.display().to_string(), "check that it exists, is writable"]);
    Ok(())
}

#[tokio::test]
async fn a_data_directory_that_another_process_uses_is_refused() -> Result<()> {
    let first = start().await?;
    let mut second = start().await?;
    second.kill();
    fs::remove_dir_all(second.data_dir())?;
    std::os::unix::fs::symlink(first.data_dir(), second.data_dir())?;
    let says = refusal(&mut second).await?;
    assert_says(&says, &[&second.data_dir().display().to_string(), "in use by another process"]);
    count(&first).await?;
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() -> Result<()> {
    let mut server = start().await?;
    server.kill();
    let address = server.client_url().replace("http://", "");
    let _taken = TcpListener::bind(&address)?;
    // Whatever the server would do to its data, it may not do before it has its ports.
    let lock = server.data_dir().join("LOCK");
    let held = File::open(&lock)?;
    held.lock()?;
    let says = refusal(&mut server).await?;
    assert_says(&says, &[&address, "address already in use", "stop the process that has it"]);
    Ok(())
}
