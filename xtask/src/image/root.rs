//! The files of an image: programs, and the libraries they load.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{self, Command};

use anyhow::{Context, Result, ensure};

/// Files and folders by path, without the slash in front; folders come before what is in them.
#[derive(Default)]
pub struct Root {
    pub entries: BTreeMap<String, Entry>,
}

pub struct Entry {
    /// `None` for a folder.
    pub content: Option<Vec<u8>>,
    pub mode: u32,
    pub owner: u32,
}

impl Root {
    pub fn folder(&mut self, path: &str, mode: u32, owner: u32) {
        self.put(path, Entry { content: None, mode, owner });
    }

    pub fn text(&mut self, path: &str, text: &str) {
        self.put(path, Entry { content: Some(text.as_bytes().to_vec()), mode: 0o644, owner: 0 });
    }

    /// A program of this machine without what only debuggers read, with the libraries that its loader would find here.
    pub fn program(&mut self, source: &Path, path: &str) -> Result<()> {
        let stripped = env::temp_dir().join(format!("keelson-image-{}", process::id()));
        let strip = Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(source).output();
        let strip = strip.context("running strip, which comes with the C compiler")?;
        ensure!(strip.status.success(), "strip {}: {}", source.display(), String::from_utf8_lossy(&strip.stderr));
        self.file(&stripped, path)?;
        fs::remove_file(&stripped)?;
        for library in libraries(source)? {
            if !self.entries.contains_key(library.trim_start_matches('/')) {
                self.file(Path::new(&library), library.trim_start_matches('/'))?;
            }
        }
        Ok(())
    }

    fn file(&mut self, source: &Path, path: &str) -> Result<()> {
        let content = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        self.put(path, Entry { content: Some(content), mode: 0o755, owner: 0 });
        Ok(())
    }

    fn put(&mut self, path: &str, entry: Entry) {
        for (end, _) in path.match_indices('/') {
            let parent = Entry { content: None, mode: 0o755, owner: 0 };
            self.entries.entry(path[..end].to_string()).or_insert(parent);
        }
        self.entries.insert(path.to_string(), entry);
    }

    /// Lays the files out below `folder`, with their modes and owners.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for (path, entry) in &self.entries {
            let path = folder.join(path);
            let made = match &entry.content {
                Some(content) => fs::write(&path, content),
                None => fs::create_dir_all(&path),
            };
            let owned = made
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(entry.mode)))
                .and_then(|()| chown(&path, Some(entry.owner), Some(entry.owner)));
            owned.with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// Absolute paths of the libraries a program is linked with, its loader included; none if it is static.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let listed = Command::new("ldd").arg(program).output().context("running ldd")?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    // ldd fails for static programs and says so.
    let says = text.clone() + &String::from_utf8_lossy(&listed.stderr);
    let fixed = says.contains("not a dynamic executable") || says.contains("statically linked");
    ensure!(listed.status.success() || fixed, "ldd {}: {says}", program.display());
    ensure!(!text.contains("not found"), "{} needs a library that is not here:\n{text}", program.display());
    Ok(if fixed { Vec::new() } else { text.lines().filter_map(path).collect() })
}

/// From `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`; the kernel's own has no path.
fn path(line: &str) -> Option<String> {
    let line = line.split_once("=>").map_or(line, |(_, path)| path).trim();
    let path = line.split_whitespace().next()?;
    path.starts_with('/').then(|| path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_the_kernels_page_is_not() {
        let lines = [
            ("\tlinux-vdso.so.1 (0x00007f17700e7000)", None),
            ("\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f176ffd6000)", Some("/lib/x86_64-linux-gnu/libm.so.6")),
            ("\t/lib64/ld-linux-x86-64.so.2 (0x00007f17700e9000)", Some("/lib64/ld-linux-x86-64.so.2")),
        ];
        for (line, found) in lines {
            assert_eq!(path(line).as_deref(), found, "{line}");
        }
    }

    #[test]
    fn a_program_that_was_laid_out_runs_with_its_own_libraries_only() {
        let mut root = Root::default();
        root.program(&std::env::current_exe().unwrap(), "bin/this").unwrap();
        let loader = root.entries.keys().find(|path| path.contains("ld-linux")).expect("a loader").clone();
        let folder = std::env::temp_dir().join(format!("keelson-xtask-root-{}", std::process::id()));
        for entry in root.entries.values_mut() {
            // Only root may give files away; whose they are is not what this is about.
            entry.owner = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap();
        }
        root.write(&folder).unwrap();
        let libraries = root.entries.keys().find(|path| path.ends_with("libc.so.6")).expect("a C library");
        let libraries = folder.join(Path::new(libraries).parent().unwrap());
        let run = Command::new(folder.join(&loader))
            .args(["--inhibit-cache", "--library-path"])
            .arg(&libraries)
            .arg(folder.join("bin/this"))
            .arg("--list")
            .output()
            .unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
}
