//! Where the programs under test are found: the real peers in the cache that `e2e/peers/build.sh`
//! fills, Keelson next to the running test's own profile.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A server that speaks the etcd v3 API and is configured with etcd's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd,
    Keelson,
}

impl Program {
    /// What is compared with etcd: Keelson, or etcd itself to test the tests.
    pub fn under_test() -> Result<Self> {
        match env::var("KEELSON_UNDER_TEST").as_deref() {
            Err(_) | Ok("keelson") => Ok(Program::Keelson),
            Ok("etcd") => Ok(Program::Etcd),
            Ok(other) => bail!("KEELSON_UNDER_TEST is {other}, not keelson or etcd"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Program::Etcd => "etcd",
            Program::Keelson => "keelson",
        }
    }

    pub fn path(self) -> Result<PathBuf> {
        match self {
            Program::Etcd => peer("etcd"),
            Program::Keelson => keelson(),
        }
    }
}

/// One of the binaries built by `e2e/peers/build.sh`.
pub fn peer(name: &str) -> Result<PathBuf> {
    let path = cache_dir()?.join("peers/bin").join(name);
    if !path.is_file() {
        bail!("{} is missing: run e2e/peers/build.sh {name}", path.display());
    }
    Ok(path)
}

pub(crate) fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("KEELSON_CACHE") {
        return Ok(dir.into());
    }
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME").context("neither KEELSON_CACHE nor HOME is set")?).join(".cache"),
    };
    Ok(base.join("keelson"))
}

fn keelson() -> Result<PathBuf> {
    own("keelson", "KEELSON_BIN")
}

/// Keelson's command line.
pub fn keelsonctl() -> Result<PathBuf> {
    own("keelsonctl", "KEELSONCTL_BIN")
}

/// What the variable names, or the binary of the profile that the running executable was built with.
fn own(name: &str, variable: &str) -> Result<PathBuf> {
    let path = match env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let exe = env::current_exe().context("the path of the running executable")?;
            profile_dir(&exe).join(name)
        }
    };
    if !path.is_file() {
        bail!("{} is missing: build it with the same profile, or set {variable}", path.display());
    }
    Ok(path)
}

/// Tests and examples live one level below the folder that holds the profile's binaries.
fn profile_dir(exe: &Path) -> &Path {
    let dir = exe.parent().unwrap_or(exe);
    match dir.file_name().and_then(|name| name.to_str()) {
        Some("deps" | "examples") => dir.parent().unwrap_or(dir),
        _ => dir,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_dir_is_the_same_for_tests_and_binaries() {
        for exe in ["/t/release/deps/oracle-1f", "/t/release/keelson-oracle", "/t/release/examples/x"] {
            assert_eq!(profile_dir(Path::new(exe)), Path::new("/t/release"));
        }
    }
}
