//! Files in the repository that are written from code: writing them, and checking that they are in step.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One file, by its path below the root of the repository.
pub struct Generated {
    pub path: &'static str,
    pub content: String,
}

/// Writes the files, or only checks that they are as they would be written.
pub fn bring(files: &[Generated], only_check: bool) -> Result<()> {
    if only_check { check(files) } else { write(files) }
}

fn write(files: &[Generated]) -> Result<()> {
    for file in files {
        let path = path(file);
        let folder = path.parent().context("a file in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        fs::write(&path, &file.content).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", file.path);
    }
    Ok(())
}

pub fn check(files: &[Generated]) -> Result<()> {
    for file in files {
        let found = fs::read_to_string(path(file)).unwrap_or_default();
        if found != file.content {
            bail!("{} is not in step: run `cargo xtask crds` and `cargo xtask manifests`, and commit what they write", file.path);
        }
    }
    Ok(())
}

fn path(file: &Generated) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file.path)
}
