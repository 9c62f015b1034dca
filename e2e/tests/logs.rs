//! Where log lines go: files that are put aside when they are full, under the names that etcd gives them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::RangeRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;

const LIMIT: Duration = Duration::from_secs(60);
/// The smallest that a file can be.
const MEBIBYTE: u64 = 1 << 20;
const FILE: &str = "server.log";

/// Names of the files beside the one that is written to.
fn aside(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().into_string().ok().context("a name that is not text")?);
    }
    names.retain(|name| name != FILE);
    Ok(names)
}

/// The one file that is kept aside, with zeros for the digits of its name.
async fn kept_by(program: Program) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(FILE);
    let output = format!("--log-outputs={}", file.display());
    let rotation = "--log-rotation-config-json={\"maxsize\":1,\"maxbackups\":1,\"compress\":true}";
    let flags = [output.as_str(), "--enable-log-rotation", rotation, "--warning-unary-request-duration=1ns"];
    let mut server = Server::start(program, &flags).await?;
    let mut kv = KvClient::connect(server.client_url()).await?;
    // Each call makes a line; two files are put aside, so that one has to go.
    let lines = async {
        let mut seen = BTreeSet::new();
        while seen.len() < 2 {
            for _ in 0..100 {
                kv.range(RangeRequest { key: "k".into(), serializable: true, ..Default::default() }).await?;
            }
            seen.extend(aside(folder.path())?.into_iter().map(|name| name.trim_end_matches(".gz").to_owned()));
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, lines).await.context("no two files were put aside")??;
    wait::until("the older is removed and the newer compressed", LIMIT, async || {
        let files = aside(folder.path())?;
        Ok(files.len() == 1 && files[0].ends_with(".gz"))
    })
    .await?;
    let length = fs::metadata(file)?.len();
    ensure!(length <= MEBIBYTE, "{length} bytes in one file of {}", program.name());
    server.stop().await?;
    let kept = aside(folder.path())?.concat();
    Ok(kept.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect())
}

#[tokio::test]
async fn a_log_file_is_put_aside_when_it_is_full_as_etcd_does_it() -> Result<()> {
    let kept = kept_by(Program::under_test()?).await?;
    assert_eq!(kept, "server-0000-00-00T00-00-00.000.log.gz");
    assert_eq!(kept, kept_by(Program::Etcd).await?);
    Ok(())
}

#[tokio::test]
async fn a_log_that_cannot_be_rotated_is_refused_as_etcd_refuses_it() -> Result<()> {
    for program in [Program::under_test()?, Program::Etcd] {
        for flags in [
            &["--enable-log-rotation"][..],
            &["--log-outputs=default,stderr"],
            &["--enable-log-rotation", "--log-outputs=/dev/null", "--log-rotation-config-json={"],
            &["--log-outputs=systemd/journal,stderr"],
            &["--v2-deprecation=not-yet"],
        ] {
            let folder = tempfile::tempdir()?;
            let mut command = std::process::Command::new(program.path()?);
            command.arg("--data-dir").arg(folder.path()).args(flags).stdin(std::process::Stdio::null());
            let output = command.output()?;
            ensure!(!output.status.success(), "{} takes {flags:?}", program.name());
        }
    }
    Ok(())
}
