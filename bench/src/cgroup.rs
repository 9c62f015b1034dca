//! A memory limit for one server, so that data can be much larger than memory on any
//! machine: a cgroup of version 1 or 2, whichever the machine has.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// A cgroup that is removed on drop.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Fails with a plain message where the machine does not let us.
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let v1 = Path::new(V1).join("memory.limit_in_bytes").exists();
        let (root, limit) = if v1 { (V1, "memory.limit_in_bytes") } else { (V2, "memory.max") };
        let path = Path::new(root).join(name);
        let why = "no memory cgroup can be made here (that takes root)";
        fs::create_dir_all(&path).context(why)?;
        let group = Cgroup { path };
        fs::write(group.path.join(limit), bytes.to_string()).context(why)?;
        Ok(group)
    }

    /// Whether a process of the group was killed for want of memory.
    pub fn killed(&self) -> bool {
        // Version 1 says it in the first of these files, version 2 in the second.
        let told = ["memory.oom_control", "memory.events"].map(|f| fs::read_to_string(self.path.join(f)));
        let lines = told.iter().flatten().flat_map(|text| text.lines());
        lines.filter_map(|l| l.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    }

    /// The file that moves a process into the group.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The server has been waited for by now, so the group is empty.
        let _ = fs::remove_dir(&self.path);
    }
}
