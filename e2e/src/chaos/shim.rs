//! The preloaded library that stalls a member's disk (`power/stall.c`) and moves its clock (`power/clock.c`).

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use crate::preload;

const SOURCES: [(&str, &str); 2] =
    [("stall", include_str!("../../power/stall.c")), ("clock", include_str!("../../power/clock.c"))];

/// The library, for LD_PRELOAD.
pub fn library() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || preload::build("trouble", &SOURCES).map_err(|e| format!("{e:#}"));
    BUILT.get_or_init(build).clone().map_err(|e| anyhow!(e))
}
