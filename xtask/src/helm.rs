//! Helm, as `e2e/peers/build.sh helm` builds it; one on the PATH otherwise.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub const CHART: &str = "charts/keelson-operator";

/// What `helm ARGS` prints, run at the root of the repository.
pub fn helm(args: &[&str]) -> Result<String> {
    let own = cache().map(|cache| cache.join("peers/bin/helm")).filter(|path| path.exists());
    let output = Command::new(own.unwrap_or_else(|| "helm".into()))
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .context("running helm: build it with e2e/peers/build.sh helm")?;
    let (out, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "helm {}: {errors}{out}", args.join(" "));
    Ok(out)
}

fn cache() -> Option<PathBuf> {
    let named = env::var_os("KEELSON_CACHE").map(PathBuf::from);
    let base =
        env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    named.or_else(|| Some(base?.join("keelson")))
}
