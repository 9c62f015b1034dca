//! Builds the preloaded library from `power/shim.c`, once per test process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// The library, for LD_PRELOAD.
pub fn library() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|e| format!("{e:#}"))).clone().map_err(|e| anyhow!(e))
}

fn build() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("power/shim.c");
    // Beside the test's own binary, under a name of its own: tests may run side by side.
    let exe = std::env::current_exe().context("the path of the running executable")?;
    let library = exe.with_extension(format!("power-{}.so", std::process::id()));
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
