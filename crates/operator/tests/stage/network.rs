//! Every pod gets an address of its own in 127.0.0.0/8, and its name in a hosts file that member processes see as theirs.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Addresses given out by this process, whichever stage they are for.
static GIVEN: AtomicU8 = AtomicU8::new(0);

pub struct Network {
    dir: TempDir,
    addresses: BTreeMap<String, Ipv4Addr>,
    base: [u8; 2],
}

impl Network {
    pub fn new() -> Result<Self> {
        let dir = TempDir::with_prefix("keelson-stage-")?;
        // Processes that run side by side do not share addresses.
        let [.., high, low] = std::process::id().to_be_bytes();
        let network = Self { dir, addresses: BTreeMap::new(), base: [high | 0x40, low] };
        network.write()?;
        Ok(network)
    }

    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// A new address for `host`: pods change theirs.
    pub fn address(&mut self, host: &str) -> Result<Ipv4Addr> {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        ensure!(given < 254, "too many pods for one process");
        let [high, low] = self.base;
        let address = Ipv4Addr::new(127, high, low, given + 1);
        self.addresses.insert(host.to_string(), address);
        self.write()?;
        Ok(address)
    }

    fn hosts(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }

    /// In place: the file is mounted where others look.
    fn write(&self) -> Result<()> {
        let lines = self.addresses.iter().map(|(host, address)| format!("{address} {host}\n"));
        fs::write(self.hosts(), format!("127.0.0.1 localhost\n{}", lines.collect::<String>()))?;
        Ok(())
    }

    /// Starts a program for which these names exist.
    pub fn spawn(&self, program: &Path, args: &[String], log: &Path) -> Result<Child> {
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""])
            .arg(self.hosts())
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting a member in a mount namespace of its own; this needs root")
    }
}
