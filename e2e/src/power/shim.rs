//! Builds the preloaded library from `power/shim.c`, once per test process.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use crate::preload;

/// The library, for LD_PRELOAD.
pub fn library() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || preload::build("power", &[("shim", include_str!("../../power/shim.c"))]).map_err(|e| format!("{e:#}"));
    BUILT.get_or_init(build).clone().map_err(|e| anyhow!(e))
}
