//! keelsonctl prints what etcdctl prints, and ends as it does: each on a server of its own, both of the same kind. And what
//! etcdutl prints of the files of snapshots.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use keelson_e2e::etcdctl::more::{COMMAND_LINES, HELD, USERS};
use keelson_e2e::etcdctl::normal::Names;
use keelson_e2e::etcdctl::run::{Printed, Tool, run_with};
use keelson_e2e::etcdctl::table::{CASES, Case};
use keelson_e2e::program::{Program, keelsonctl, peer};
use keelson_e2e::server::Server;
use regex::Regex;
use tokio::process::Command;

/// Ids of leases that no command named.
static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new("/[0-9a-f]{14,16}\\b").expect("a valid pattern"));

#[tokio::test(flavor = "multi_thread")]
async fn keelsonctl_prints_on_etcd_what_etcdctl_prints() -> Result<()> {
    compare(Program::Etcd, &[CASES, COMMAND_LINES, USERS, HELD]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn keelsonctl_prints_on_keelson_what_etcdctl_prints() -> Result<()> {
    compare(Program::Keelson, &[CASES, COMMAND_LINES, USERS, HELD]).await
}

async fn compare(program: Program, tables: &[&[Case]]) -> Result<()> {
    let flags = ["--log-level", "warn"];
    let (one, other) = futures::join!(Server::start(program, &flags), Server::start(program, &flags));
    let (one, other) = (one?, other?);
    let (mut one_names, mut other_names) = (Names::of(&one).await?, Names::of(&other).await?);
    // keelsonctl says what it is, too.
    let version = |case: &&Case| matches!(case, Case::Run("version"));
    let cases: Vec<&Case> = tables.iter().copied().flatten().filter(|case| !version(case)).collect();
    let mut differences = 0;
    for case in &cases {
        let (expected, printed) = futures::join!(
            run_with(Tool::Etcdctl, case, &one, &mut one_names),
            run_with(Tool::Keelsonctl, case, &other, &mut other_names)
        );
        let (expected, printed) = (spoken(expected?), spoken(printed?));
        if expected != printed {
            differences += 1;
            println!("--- {case:?}\netcdctl    {expected:#?}\nkeelsonctl {printed:#?}");
        }
    }
    ensure!(differences == 0, "{differences} of {} commands print something else than etcdctl", cases.len());
    Ok(())
}

/// Without the log lines of etcd's client library, and without the usage that follows a mistake: its words are each
/// program's own.
fn spoken(printed: Printed) -> Printed {
    let own = |text: String| ID.replace_all(&text.replace("keelsonctl", "etcdctl"), "/ID").into_owned();
    let told = printed.stderr.lines().take_while(|line| !line.starts_with("Usage:"));
    let stderr: String = told.filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect();
    Printed { code: printed.code, stdout: own(printed.stdout), stderr: sorted_out(own(stderr)) }
}

/// Reasons that a library or the machine words are only told apart from there being none.
fn sorted_out(stderr: String) -> String {
    let machine = ["nowhere.crt", "KeyFile and CertFile", "marshal unsupported"];
    if machine.iter().any(|text| stderr.contains(text)) { "Error: (in other words)\n".into() } else { stderr }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_lines_of_the_version_are_etcdctls() -> Result<()> {
    let output = Command::new(keelsonctl()?).arg("version").output().await?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.starts_with("etcdctl version: 3.7.3\nAPI version: 3.7\nkeelsonctl version: "), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_is_asked_when_one_cannot_be_reached() -> Result<()> {
    let server = Server::start(Program::Keelson, &["--log-level", "warn"]).await?;
    // Nobody serves on port 1.
    let endpoints = format!("127.0.0.1:1,{}", server.client_url());
    let put = ctl(&endpoints, &["put", "foo", "bar"]).await?;
    ensure!(put == (Some(0), "OK\n".into()), "{put:?}");
    let get = ctl(&endpoints, &["get", "foo"]).await?;
    ensure!(get == (Some(0), "foo\nbar\n".into()), "{get:?}");
    let nobody = ctl("127.0.0.1:1", &["get", "foo", "--command-timeout=1s"]).await?;
    ensure!(nobody == (Some(1), String::new()), "{nobody:?}");
    Ok(())
}

async fn ctl(endpoints: &str, args: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(keelsonctl()?);
    command.env_clear().env("KEELSONCTL_ENDPOINTS", endpoints).args(args).stdin(Stdio::null());
    let output = command.output().await?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_etcd_replaces_the_one_of_before_once_it_is_whole() -> Result<()> {
    let server = Server::start(Program::Etcd, &["--log-level", "warn"]).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("snapshot.db");
    let name = path.to_str().context("a path that is text")?;
    let saved = ctl(&server.client_url(), &["snapshot", "save", name]).await?;
    ensure!(saved.0 == Some(0) && saved.1.starts_with(&format!("Snapshot saved at {name}\n")), "{saved:?}");
    let size = size(&path)?;
    // Pages and the checksum behind them.
    ensure!(size % 512 == 32, "{size} bytes");
    std::fs::write(&path, "of before")?;
    let nobody = ctl("127.0.0.1:1", &["--dial-timeout", "300ms", "--command-timeout", "1s", "snapshot", "save", name]).await?;
    ensure!(nobody.0 != Some(0) && std::fs::read(&path)? == b"of before", "{nobody:?}");
    let again = ctl(&server.client_url(), &["snapshot", "save", name]).await?;
    ensure!(again == saved && self::size(&path)? == size, "{again:?}");
    ensure!(std::fs::read_dir(folder.path())?.count() == 1, "something is left beside the snapshot");
    Ok(())
}

/// Exit code and stdout; for commands that ask no server.
async fn printed(tool: PathBuf, args: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(tool).env_clear().args(args).stdin(Stdio::null()).output().await?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?))
}

async fn differ_in_nothing(args: &[&str]) -> Result<(Option<i32>, String)> {
    let etcdutl = printed(peer("etcdutl")?, args).await?;
    let keelsonctl = printed(keelsonctl()?, args).await?;
    ensure!(etcdutl == keelsonctl, "{args:?}\netcdutl    {etcdutl:?}\nkeelsonctl {keelsonctl:?}");
    Ok(keelsonctl)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_told_as_etcdutl_tells_it() -> Result<()> {
    for program in [Program::Etcd, Program::Keelson] {
        let server = Server::start(program, &["--log-level", "warn"]).await?;
        let path = server.file("snapshot.db");
        let name = path.to_str().context("a path that is text")?;
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            ensure!(ctl(&server.client_url(), &["put", key, value]).await?.0 == Some(0));
        }
        ensure!(ctl(&server.client_url(), &["del", "b"]).await?.0 == Some(0));
        ensure!(ctl(&server.client_url(), &["snapshot", "save", name]).await?.0 == Some(0));
        for format in ["simple", "table", "fields", "json", "protobuf", "nonsense"] {
            let (code, told) = differ_in_nothing(&["snapshot", "status", name, "-w", format]).await?;
            ensure!((code == Some(0)) != told.is_empty(), "{format}: {code:?} {told}");
        }
        let (_, told) = differ_in_nothing(&["snapshot", "status", name]).await?;
        ensure!(told.contains(", 5, 1, "), "{told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_etcdutl_refuses_is_refused_with_its_exit_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).to_str().map(str::to_owned).context("a path that is text");
    let (missing, other, full, dir) = (file("missing")?, file("other")?, file("full")?, file("dir")?);
    std::fs::write(&other, vec![7_u8; 4096])?;
    std::fs::create_dir(&full)?;
    std::fs::write(file("full/file")?, "data")?;
    let (missing, other, full, dir) = (missing.as_str(), other.as_str(), full.as_str(), dir.as_str());
    let restore = |to: &[&'static str]| [&["snapshot", "restore", missing, "--data-dir", dir][..], to].concat();
    let cases: [(Vec<&str>, i32); 9] = [
        (vec!["snapshot", "status"], 128),
        (vec!["snapshot", "status", missing, other], 128),
        (vec!["snapshot", "status", missing, "-w", "nonsense"], 1),
        (vec!["snapshot", "status", other], 1),
        (vec!["snapshot", "restore"], 128),
        (restore(&["--mark-compacted"]), 128),
        (restore(&["--bump-revision", "5"]), 128),
        (restore(&["--name", "nobody"]), 1),
        (vec!["snapshot", "restore", other, "--data-dir", full], 1),
    ];
    for (args, code) in cases {
        let printed = differ_in_nothing(&args).await?;
        ensure!(printed == (Some(code), String::new()), "{args:?}: {printed:?}");
    }
    Ok(())
}

fn size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}
