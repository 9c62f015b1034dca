//! Builds the preloaded library from `power/shim.c`, once per test process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// The library, for LD_PRELOAD.
pub fn library() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|e| format!("{e:#}"))).clone().map_err(|e| anyhow!(e))
}

fn build() -> Result<PathBuf> {
    // Beside the test's own binary, under a name of its own: tests may run side by side.
    let exe = std::env::current_exe().context("the path of the running executable")?;
    let library = exe.with_extension(format!("power-{}.so", std::process::id()));
    let source = library.with_extension("c");
    std::fs::write(&source, include_str!("../../power/shim.c")).with_context(|| format!("writing {}", source.display()))?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler)
        .args(["-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-pthread", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .with_context(|| format!("running {compiler}"))?;
    if !output.status.success() {
        bail!("{compiler} {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(library)
}
