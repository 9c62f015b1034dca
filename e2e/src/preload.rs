//! Libraries that are preloaded into members, and stand between them and their system. They are built from C, once per
//! test process. Programs that make their system calls themselves, as etcd does, do not notice them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, id};

use anyhow::{Context, Result, bail};

/// Builds the library of this name from its sources, each with a name of its own.
pub fn build(name: &str, sources: &[(&str, &str)]) -> Result<PathBuf> {
    // Beside the test's own binary, under a name of its own: tests may run side by side.
    let exe = std::env::current_exe().context("the path of the running executable")?;
    let library = exe.with_extension(format!("{name}-{}.so", id()));
    let mut files = Vec::new();
    for (source, text) in sources {
        let file = exe.with_extension(format!("{name}-{}-{source}.c", id()));
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        files.push(file);
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Command::new(&compiler)
        .args(["-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-pthread", "-o"])
        .arg(&library)
        .args(&files)
        .arg("-ldl")
        .output()
        .with_context(|| format!("running {compiler}"))?;
    if !output.status.success() {
        bail!("{compiler} {}: {}", library.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(library)
}
