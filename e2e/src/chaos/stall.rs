//! A disk that does not answer for a while: a preloaded library holds up every sync of a process, or every read, as long
//! as a certain file exists.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::shim;
use crate::server::Server;

/// A switch of one member's disk.
pub struct Stall {
    switch: PathBuf,
}

impl Stall {
    /// From its next start on what the member's disk is to sync can be stalled.
    pub fn install(member: &mut Server) -> Result<Self> {
        Self::with(member, "KEELSON_STALL", "stall")
    }

    /// The same for what is read from it.
    pub fn install_for_reads(member: &mut Server) -> Result<Self> {
        Self::with(member, "KEELSON_STALL_READS", "stall-reads")
    }

    fn with(member: &mut Server, variable: &'static str, switch: &str) -> Result<Self> {
        let switch = member.file(switch);
        member.set_env("LD_PRELOAD", Some(shim::library()?.display().to_string()));
        member.set_env(variable, Some(switch.display().to_string()));
        Ok(Self { switch })
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
