//! One server process: the same flags for both programs, a data folder on disk, ports that are free,
//! and never anything but loopback.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use crate::cgroup::Cgroup;
use crate::server::Program;

/// A name, and where clients and other members find it.
#[derive(Debug, Clone)]
pub struct Address {
    pub name: String,
    pub client: String,
    pub peer: String,
}

impl Address {
    pub fn free(number: usize) -> Result<Self> {
        // Both at once, so that they differ.
        let taken = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [client, peer] = [taken[0].local_addr()?, taken[1].local_addr()?].map(|address| format!("http://{address}"));
        Ok(Address { name: format!("bench-{number}"), client, peer })
    }

    /// As `--initial-cluster` wants it.
    pub fn in_cluster(&self) -> String {
        format!("{}={}", self.name, self.peer)
    }
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Member {
    pub address: Address,
    pub pid: u32,
    pub child: Child,
}

impl Member {
    /// Starts it with data in a folder of its name below `dir`; all log to the same file.
    pub fn spawn(program: &Program, dir: &Path, address: Address, flags: &[String], group: Option<&Cgroup>) -> Result<Self> {
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
            .args(["--name", &address.name, "--log-level", "error"])
            .arg("--data-dir")
            .arg(dir.join(&address.name))
            .args(["--listen-client-urls", &address.client, "--advertise-client-urls", &address.client])
            .args(["--listen-peer-urls", &address.peer, "--initial-advertise-peer-urls", &address.peer])
            // Room for the 10 GiB row, and batches that make filling a million keys quick.
            .args(["--quota-backend-bytes", "34359738368", "--max-txn-ops", "1024"])
            .args(flags)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.path.display()))?;
        let pid = child.id().context("the server ended at once")?;
        Ok(Member { address, pid, child })
    }
}

impl Drop for Member {
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
