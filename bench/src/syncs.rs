//! Counts the server's file syncs with `perf stat` on the file system's own sync tracepoint. That
//! one fires only when a sync happens and catches every way to ask for one, so it costs nothing
//! in between; tracing the system calls instead would slow every call of every process.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

fn event(filesystem: &str) -> &'static str {
    match filesystem {
        "ext4" => "ext4:ext4_sync_file_enter",
        "xfs" => "xfs:xfs_file_fsync",
        "btrfs" => "btrfs:btrfs_sync_file",
        _ => "syscalls:sys_enter_fdatasync,syscalls:sys_enter_fsync",
    }
}

/// Whether syncs can be counted here: it takes perf and the right to trace.
#[derive(Debug, Clone)]
pub struct Counter {
    event: &'static str,
    usable: bool,
}

/// A count that is under way.
#[derive(Debug)]
pub struct Counting {
    perf: Child,
    output: PathBuf,
}

impl Counter {
    pub async fn probe(filesystem: &str) -> Self {
        let event = event(filesystem);
        let mut probe = Command::new("perf");
        probe.args(["stat", "-x,", "-e", event, "true"]);
        probe.stdout(Stdio::null()).stderr(Stdio::null());
        let usable = probe.status().await.is_ok_and(|s| s.success());
        if !usable {
            eprintln!("syncs are not counted: `perf stat -e {event}` does not work here");
        }
        Counter { event, usable }
    }

    /// Counts syncs of these processes, their threads to come included.
    pub async fn start(&self, pids: &[u32], scratch: &std::path::Path) -> Result<Option<Counting>> {
        if !self.usable {
            return Ok(None);
        }
        let output = scratch.join("syncs");
        let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let log = std::fs::File::create(&output)?;
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x,", "--log-fd", "1", "-e", self.event, "-p", &list]);
        perf.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).kill_on_drop(true);
        let perf = perf.spawn().context("perf stat")?;
        // perf does not say when it is attached; it has by the time that it sleeps in poll.
        let end = Instant::now() + Duration::from_secs(2);
        let state = format!("/proc/{}/wchan", perf.id().unwrap_or(0));
        while Instant::now() < end {
            let waiting = std::fs::read_to_string(&state).unwrap_or_default();
            if waiting.contains("poll") || waiting.contains("nanosleep") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(Counting { perf, output }))
    }
}

impl Counting {
    pub async fn stop(mut self) -> Option<u64> {
        // perf prints its count when interrupted; killing it would lose the count.
        let pid = self.perf.id()?.to_string();
        let told = Command::new("kill").args(["-INT", &pid]).status().await;
        if !told.is_ok_and(|s| s.success()) {
            return None;
        }
        tokio::time::timeout(Duration::from_secs(10), self.perf.wait()).await.ok()?.ok()?;
        let text = std::fs::read_to_string(&self.output).ok()?;
        let counts = text.lines().filter_map(|l| l.split(',').next()?.trim().parse::<u64>().ok());
        Some(counts.sum())
    }
}
