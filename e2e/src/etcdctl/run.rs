//! Runs one command of a command line against one server.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, timeout, timeout_at};

use super::normal::Names;
use super::table::Case;
use crate::program;
use crate::server::Server;

const COMMAND_LIMIT: Duration = Duration::from_secs(30);
const WATCH_LIMIT: Duration = Duration::from_secs(10);

/// What a command printed and how it ended, freed of what differs between any two servers.
#[derive(Debug, PartialEq)]
pub struct Printed {
    /// `None` for a watch, which is ended from outside.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Whose command line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Etcdctl,
    Keelsonctl,
}

impl Tool {
    fn path(self) -> Result<PathBuf> {
        match self {
            Tool::Etcdctl => program::peer("etcdctl"),
            Tool::Keelsonctl => program::keelsonctl(),
        }
    }
}

pub async fn run(case: &Case, server: &Server, names: &mut Names) -> Result<Printed> {
    run_with(Tool::Etcdctl, case, server, names).await
}

pub async fn run_with(tool: Tool, case: &Case, server: &Server, names: &mut Names) -> Result<Printed> {
    let tool = tool.path()?;
    match case {
        Case::Run(args) => finish(&tool, args, "", server, names).await,
        Case::Feed(args, stdin) => finish(&tool, args, stdin, server, names).await,
        Case::Watch { args, lines } => watch(&tool, args, *lines, server, names).await,
    }
}

fn command(tool: &Path, args: &str, server: &Server, names: &Names) -> Command {
    let mut command = Command::new(tool);
    command
        .args(args.split_whitespace().map(|word| if word == "''" { String::new() } else { names.expand(word) }))
        .env_clear()
        .env("ETCDCTL_ENDPOINTS", server.client_url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn finish(tool: &Path, args: &str, stdin: &str, server: &Server, names: &mut Names) -> Result<Printed> {
    let mut child = command(tool, args, server, names).spawn()?;
    let mut input = child.stdin.take().context("stdin is piped")?;
    // A command that fails early does not read what it is given.
    let _ = input.write_all(stdin.as_bytes()).await;
    drop(input);
    let Output { status, stdout, stderr } = timeout(COMMAND_LIMIT, child.wait_with_output())
        .await
        .with_context(|| format!("{} {args}: not done within {COMMAND_LIMIT:?}", tool.display()))??;
    let printed = String::from_utf8_lossy(&stdout);
    names.learn_leases(&printed);
    Ok(Printed {
        code: status.code(),
        stdout: names.normalise_stdout(args, &stdout)?,
        stderr: names.normalise(&String::from_utf8_lossy(&stderr)),
    })
}

/// A watch goes on for ever: the first `lines` of what it prints are compared.
async fn watch(tool: &Path, args: &str, lines: usize, server: &Server, names: &Names) -> Result<Printed> {
    let mut child = command(tool, args, server, names).spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let deadline = Instant::now() + WATCH_LIMIT;
    let mut printed = String::new();
    for _ in 0..lines {
        match timeout_at(deadline, output.next_line()).await {
            Ok(Ok(Some(line))) => printed += &format!("{line}\n"),
            Ok(_) => break,
            Err(_) => {
                printed += "(and nothing more)\n";
                break;
            }
        }
    }
    child.kill().await?;
    Ok(Printed { code: None, stdout: names.normalise(&printed), stderr: String::new() })
}
