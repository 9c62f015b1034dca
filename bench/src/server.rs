//! Starts and ends the servers under test: one, or a cluster of them, on fresh data.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;

use crate::cgroup::Cgroup;
use crate::member::{Address, Member};
use crate::{client, process};

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

/// A running server, or several that form a cluster; killed when dropped, their data removed.
#[derive(Debug)]
pub struct Server {
    /// Where loads go that go to one member: in a cluster, its leader.
    pub endpoint: String,
    program: Program,
    /// Before the folder, so that they have ended when it is removed.
    members: Vec<Member>,
    /// Holds the data folders, the servers' logs and other scratch files.
    pub dir: TempDir,
    group: Option<Cgroup>,
}

/// How long a server may take to answer its first put.
const START: Duration = Duration::from_secs(300);

impl Server {
    /// Starts a server on fresh data below `base` and waits for its first put.
    pub async fn start(program: &Program, base: &Path, group: Option<Cgroup>) -> Result<Self> {
        Self::launch(program, base, group, 1).await
    }

    /// The same for a cluster of `count` members; `endpoint` is its leader's.
    pub async fn cluster(program: &Program, base: &Path, count: usize) -> Result<Self> {
        let mut server = Self::launch(program, base, None, count).await?;
        for member in &server.members {
            let status = client::status(&member.address.client).await?;
            if status.leader == status.header.unwrap_or_default().member_id {
                server.endpoint = member.address.client.clone();
            }
        }
        Ok(server)
    }

    async fn launch(program: &Program, base: &Path, group: Option<Cgroup>, count: usize) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("keelson-bench-").tempdir_in(base)?;
        let addresses = (0..count).map(Address::free).collect::<Result<Vec<_>>>()?;
        let cluster = addresses.iter().map(Address::in_cluster).collect::<Vec<_>>().join(",");
        let flags = ["--initial-cluster".to_owned(), cluster];
        let mut members = Vec::new();
        for address in addresses {
            members.push(Member::spawn(program, dir.path(), address, &flags, group.as_ref())?);
        }
        let endpoint = members[0].address.client.clone();
        let mut server = Server { endpoint, dir, program: program.clone(), members, group };
        for number in 0..count {
            server.first_put(number).await?;
        }
        Ok(server)
    }

    /// Adds a learner with an empty data folder and starts it.
    pub async fn join(&self) -> Result<Member> {
        let address = Address::free(self.members.len())?;
        client::add_learner(&self.endpoint, &address.peer).await?;
        let members = self.members.iter().map(|member| &member.address);
        let cluster = members.chain([&address]).map(Address::in_cluster).collect::<Vec<_>>().join(",");
        let flags = ["--initial-cluster-state", "existing", "--initial-cluster", &cluster].map(Into::into);
        Member::spawn(&self.program, self.dir.path(), address, &flags, None)
    }

    /// Where every member serves clients.
    pub fn endpoints(&self) -> Vec<&str> {
        self.members.iter().map(|member| member.address.client.as_str()).collect()
    }

    /// The processes of all members.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.pid).collect()
    }

    /// Bytes on disk, of all members.
    pub fn disk(&self) -> u64 {
        self.members.iter().map(|member| process::disk(&self.dir.path().join(&member.address.name))).sum()
    }

    /// Tries until a linearizable put through this member is answered.
    async fn first_put(&mut self, number: usize) -> Result<()> {
        let end = Instant::now() + START;
        loop {
            let member = &mut self.members[number];
            // Bounded, because a connection to a server that is still starting may hang.
            let attempt = client::put_once(&member.address.client, b"bench-ready");
            let error = match tokio::time::timeout(Duration::from_secs(20), attempt).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(late) => late.into(),
            };
            if let Some(status) = member.child.try_wait()? {
                bail!("the server ended ({status}): {}", self.log_tail());
            }
            if Instant::now() > end {
                bail!("no put within {} s ({error:#}): {}", START.as_secs(), self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL to first linearizable put, of a single server.
    pub async fn crash_and_restart(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.members[0].child.kill().await?;
        let address = self.members[0].address.clone();
        let flags = ["--initial-cluster".to_owned(), address.in_cluster()];
        self.members[0] = Member::spawn(&self.program, self.dir.path(), address, &flags, self.group.as_ref())?;
        self.first_put(0).await?;
        Ok(start.elapsed())
    }

    /// Whether the kernel ended the server for its use of memory.
    pub fn out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(Cgroup::killed)
    }

    /// Last lines of what the servers logged, for error messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
