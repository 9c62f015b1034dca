//! A clock that somebody sets: a preloaded library adds to the date that a process reads whatever a certain file says.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::shim;
use crate::server::Server;

/// One member's clock.
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// From its next start on the member's clock can be set.
    pub fn install(member: &mut Server) -> Result<Self> {
        let clock = Self { file: member.file("clock") };
        fs::write(&clock.file, 0_i64.to_ne_bytes()).context("a file for the clock")?;
        member.set_env("LD_PRELOAD", Some(shim::library()?.display().to_string()));
        member.set_env("KEELSON_CLOCK", Some(clock.file.display().to_string()));
        Ok(clock)
    }

    /// From now on it is so many seconds ahead of the machine's, or behind it.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // In place: the process has mapped the file, and must never find it empty.
        let file = OpenOptions::new().write(true).open(&self.file).context("the file for the clock")?;
        file.write_all_at(&seconds.to_ne_bytes(), 0).context("setting a clock")
    }
}
