//! Starts and ends the servers under test: the same flags, a fresh data folder on disk, ports that
//! are free, and never anything but loopback.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::cgroup::Cgroup;
use crate::client;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Etcd,
    Keelson,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Etcd => "etcd",
            Kind::Keelson => "keelson",
        }
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "etcd" => Ok(Kind::Etcd),
            "keelson" => Ok(Kind::Keelson),
            _ => bail!("no server is called '{s}': etcd or keelson"),
        }
    }
}

/// A binary to measure.
#[derive(Debug, Clone)]
pub struct Program {
    pub kind: Kind,
    pub path: PathBuf,
    pub version: String,
}

impl Program {
    pub async fn new(kind: Kind, path: PathBuf) -> Result<Self> {
        let said = Command::new(&path).arg("--version").output().await;
        let said = said.with_context(|| format!("{} --version", path.display()))?;
        let text = String::from_utf8_lossy(&said.stdout);
        // "etcd Version: 3.7.3" or "keelson 0.1.0".
        let version = text.lines().next().and_then(|l| l.split_whitespace().last());
        Ok(Program { kind, path, version: version.unwrap_or("unknown").to_owned() })
    }
}

/// A running server; killed when dropped, its data removed.
#[derive(Debug)]
pub struct Server {
    pub endpoint: String,
    pub pid: u32,
    /// Holds the data folder, the server's log and other scratch files.
    pub dir: TempDir,
    program: Program,
    child: Child,
    peer: String,
    group: Option<Cgroup>,
}

/// How long a server may take to answer its first put.
const START: Duration = Duration::from_secs(300);

fn free_ports() -> Result<[u16; 2]> {
    // Both at once, so that they differ.
    let taken = [std::net::TcpListener::bind("127.0.0.1:0")?, std::net::TcpListener::bind("127.0.0.1:0")?];
    Ok([taken[0].local_addr()?.port(), taken[1].local_addr()?.port()])
}

fn spawn(program: &Program, dir: &Path, client: &str, peer: &str, group: Option<&Cgroup>) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let mut command = match group {
        // The shell joins the group and then becomes the server, under the same pid.
        Some(group) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(group.procs()).arg(&program.path);
            shell
        }
        None => Command::new(&program.path),
    };
    command
        .args(["--name", "bench", "--log-level", "error"])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen-client-urls", client, "--advertise-client-urls", client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .arg("--initial-cluster")
        .arg(format!("bench={peer}"))
        // Room for the 10 GiB row, and batches that make filling a million keys quick.
        .args(["--quota-backend-bytes", "34359738368", "--max-txn-ops", "1024"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start {}", program.path.display()))
}

impl Server {
    /// Starts a server on fresh data below `base` and waits for its first put.
    pub async fn start(program: &Program, base: &Path, group: Option<Cgroup>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("keelson-bench-").tempdir_in(base)?;
        let [client, peer] = free_ports()?;
        let (endpoint, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let child = spawn(program, dir.path(), &endpoint, &peer, group.as_ref())?;
        let pid = child.id().context("the server ended at once")?;
        let program = program.clone();
        let mut server = Server { endpoint, pid, dir, program, child, peer, group };
        server.first_put().await?;
        Ok(server)
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Tries until a linearizable put is answered.
    async fn first_put(&mut self) -> Result<()> {
        let end = Instant::now() + START;
        loop {
            // Bounded, because a connection to a server that is still starting may hang.
            let attempt = client::put_once(&self.endpoint, b"bench-ready");
            let error = match tokio::time::timeout(Duration::from_secs(20), attempt).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(late) => late.into(),
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended ({status}): {}", self.log_tail());
            }
            if Instant::now() > end {
                bail!("no put within {} s ({error:#}): {}", START.as_secs(), self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL to first linearizable put.
    pub async fn crash_and_restart(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.child.kill().await?;
        let dir = self.dir.path();
        self.child = spawn(&self.program, dir, &self.endpoint, &self.peer, self.group.as_ref())?;
        self.pid = self.child.id().context("the server ended at once")?;
        self.first_put().await?;
        Ok(start.elapsed())
    }

    /// Whether the kernel ended the server for its use of memory.
    pub fn out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(Cgroup::killed)
    }

    /// Last lines of what the server logged, for error messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    /// Waits for the end: a server that still runs would write into a folder that is being
    /// removed, and disturb the next one.
    fn drop(&mut self) {
        const STEP: Duration = Duration::from_millis(5);
        let _ = self.child.start_kill();
        let end = Instant::now() + Duration::from_secs(30);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(STEP);
        }
    }
}
