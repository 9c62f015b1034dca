//! A disk that does not answer for a while: a preloaded library holds up every sync of a process as long as
//! a certain file exists. Programs that make their system calls themselves, as etcd does, do not notice it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// The switch of one member's disk.
pub struct Stall {
    library: PathBuf,
    switch: PathBuf,
}

impl Stall {
    /// The switch will be a file of this name.
    pub fn new(switch: &Path) -> Result<Self> {
        Ok(Self { library: library()?, switch: switch.to_owned() })
    }

    /// What the process has to be started with.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.library.display().to_string()), ("KEELSON_STALL", self.switch.display().to_string())]
    }

    /// From now on, or no more.
    pub fn set(&self, stalled: bool) -> Result<()> {
        match stalled {
            true => File::create(&self.switch).map(drop).context("stalling a disk"),
            false => match fs::remove_file(&self.switch) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("ending the stall of a disk"),
                _ => Ok(()),
            },
        }
    }
}

fn library() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|e| format!("{e:#}"))).clone().map_err(|e| anyhow!(e))
}

fn build() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("the path of the running executable")?;
    let library = exe.with_extension(format!("stall-{}.so", std::process::id()));
    let source = library.with_extension("c");
    fs::write(&source, include_str!("../../power/stall.c")).with_context(|| format!("writing {}", source.display()))?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler)
        .args(["-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .output()
        .with_context(|| format!("running {compiler}"))?;
    if !output.status.success() {
        bail!("{compiler} {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(library)
}
