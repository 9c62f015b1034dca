//! Puts one server's directory on a power supply that can be cut.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;

use super::disk::{Disk, Fate};
use super::{journal, shim};

pub struct Rig {
    library: PathBuf,
    root: PathBuf,
    journal: PathBuf,
    disk: Disk,
    story: Vec<String>,
}

/// How many of the last cuts a failure tells about.
const TOLD: usize = 5;

impl Rig {
    /// For the data directory of a server that does not run.
    pub fn new(root: &Path) -> Result<Self> {
        let journal = root.with_extension("journal");
        Ok(Self { library: shim::library()?, root: root.into(), journal, disk: Disk::default(), story: Vec::new() })
    }

    /// Takes what is there as durable; gives the environment to start the server with.
    pub fn plug_in(&mut self) -> Result<[(&'static str, String); 3]> {
        self.disk = Disk::read(&self.root)?;
        fs::write(&self.journal, []).context("creating the journal")?;
        let text = |path: &Path| path.display().to_string();
        Ok([
            ("LD_PRELOAD", text(&self.library)),
            ("KEELSON_POWER_ROOT", text(&self.root)),
            ("KEELSON_POWER_JOURNAL", text(&self.journal)),
        ])
    }

    /// Replaces the directory of the killed server with what a power cut at its death would have left.
    pub fn cut(&mut self, rng: &mut StdRng) -> Result<()> {
        let records = journal::parse(&fs::read(&self.journal)?)?;
        let count = records.len();
        for record in records {
            self.disk.follow(record)?;
        }
        let fate = [Fate::Lost, Fate::Begun, Fate::Scattered][rng.random_range(0..3)];
        let keep_bytes = rng.random_bool(0.6);
        let left = self.disk.after_cut(fate, keep_bytes, rng);
        self.story.push(format!(
            "power cut after {count} changes: unsynced names {fate:?}, unsynced bytes {}, left {} files\n",
            if keep_bytes { "torn" } else { "lost" },
            left.values().flatten().count()
        ));
        self.put(&left)
    }

    fn put(&self, left: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> Result<()> {
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        for (path, bytes) in left {
            let path = self.root.join(path);
            match bytes {
                None => fs::create_dir_all(&path)?,
                Some(bytes) => fs::write(&path, bytes)?,
            }
        }
        Ok(())
    }

    /// What happened last, for the report of a failure.
    pub fn story(&self) -> String {
        self.story[self.story.len().saturating_sub(TOLD)..].concat()
    }
}
