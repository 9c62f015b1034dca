//! What a server process uses, read from /proc: CPU time, memory, and whether it has come to rest.
//! From outside, so that it is the same measure for both servers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::sizes::Settle;

/// Length of a clock tick in /proc: USER_HZ is 100 on every Linux that runs etcd.
const TICK: Duration = Duration::from_millis(10);

/// Bytes of memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    pub anon: u64,
    pub rss: u64,
    /// Highest `rss` since `reset_peak`.
    pub peak: u64,
}

/// CPU time of all threads of these processes, ended ones too, in user and kernel.
pub fn cpu(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| ticks(&pid.to_string(), 11..13)).sum()
}

/// CPU time of this process and of its children that have ended: the loaders.
pub fn own_cpu() -> Result<Duration> {
    ticks("self", 11..15)
}

/// CPU time that all processes together used of all cores, stolen time included.
pub fn machine_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
    let busy = fields.take(8).enumerate().filter(|(i, _)| *i != 3 && *i != 4);
    let busy: u32 = busy.filter_map(|(_, v)| v.parse::<u32>().ok()).sum();
    Ok(TICK * busy)
}

/// Sum of the fields behind the program's name.
fn ticks(process: &str, range: std::ops::Range<usize>) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the server is gone")?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("odd /proc/PID/stat")?;
    let fields = rest.split_whitespace().skip(range.start).take(range.len());
    let ticks = fields.map(|f| f.parse::<u32>()).sum::<Result<u32, _>>();
    Ok(TICK * ticks.context("odd /proc/PID/stat")?)
}

/// Of all these processes together.
pub fn memory(pids: &[u32]) -> Result<Memory> {
    let mut all = Memory::default();
    for pid in pids {
        let one = memory_of(*pid)?;
        all = Memory { anon: all.anon + one.anon, rss: all.rss + one.rss, peak: all.peak + one.peak };
    }
    Ok(all)
}

fn memory_of(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    let kib = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    Ok(Memory { anon: kib("RssAnon:") << 10, rss: kib("VmRSS:") << 10, peak: kib("VmHWM:") << 10 })
}

/// Lets the peaks start again at what is resident now.
pub fn reset_peak(pids: &[u32]) {
    for pid in pids {
        // Only the owner may; where it fails, the peak is one since the start, which is no smaller.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// Waits until the servers are idle. False if they never were within the limit.
pub async fn settle(pids: &[u32], rule: Settle) -> Result<bool> {
    // Sampling over time is the point here: idleness has no event to wait for.
    const STEP: Duration = Duration::from_millis(200);
    let end = Instant::now() + rule.limit;
    let mut quiet_since = (Instant::now(), cpu(pids)?);
    while Instant::now() < end {
        tokio::time::sleep(STEP).await;
        let (since, start) = quiet_since;
        let (elapsed, used) = (since.elapsed(), cpu(pids)?.saturating_sub(start));
        // Members of a cluster are never quite idle. One tick of slack: a single 10 ms tick must not look like a busy core.
        if used > (elapsed.mul_f64(rule.idle) + TICK) * pids.len() as u32 {
            quiet_since = (Instant::now(), cpu(pids)?);
        } else if elapsed >= rule.quiet {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Bytes that the files below `dir` take on disk; blocks, since both servers preallocate.
pub fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        // Files vanish under a running server.
        Err(_) => 0,
    });
    sizes.sum()
}
