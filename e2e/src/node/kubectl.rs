//! kubectl, Helm and etcdctl, against that Kubernetes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::program;

const LIMIT: Duration = Duration::from_secs(300);

/// What `kubectl ARGS` prints; `input` is what it reads.
pub async fn kubectl(args: &[&str], input: Option<&str>) -> Result<String> {
    run("kubectl", args, input).await
}

/// What `helm ARGS` prints, run at the root of the repository.
pub async fn helm(args: &[&str]) -> Result<String> {
    run("helm", args, None).await
}

/// What `etcdctl ARGS` prints, with that member or Service as its only endpoint.
pub async fn etcdctl(endpoint: &str, args: &[&str]) -> Result<String> {
    run("etcdctl", &[&["--endpoints", endpoint], args].concat(), None).await
}

async fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<String> {
    let called = format!("{program} {}", args.join(" "));
    let mut child = Command::from(command(program)?)
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| called.clone())?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.with_context(|| called.clone())??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{called}: {}", errors.trim());
    // Warnings of the API server are part of what people see.
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &errors)
}

/// The program, set up to find that Kubernetes.
pub(super) fn command(program: &str) -> Result<std::process::Command> {
    let mut command = std::process::Command::new(program::peer(program)?);
    command.env("KUBECONFIG", kubeconfig()?).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    Ok(command)
}

fn kubeconfig() -> Result<PathBuf> {
    let path = program::cache_dir()?.join("node/kubeconfig");
    ensure!(path.is_file(), "{} is missing: these tests need a whole Kubernetes, run them by `make e2e-node`", path.display());
    Ok(path)
}
