//! The command line: a handful of flags, parsed by hand so that the harness needs no parser.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::server::Kind;

pub const USAGE: &str = "\
keelson-bench [flags]                  run the same load on etcd and keelson in turn

  --quick             small sizes and one run: a check that everything works, not a result
  --only NAME,...     only these scenarios (see --list)
  --runs N            runs of each server per scenario (default 3; 1 with --quick)
  --servers LIST      etcd,keelson (default), or one of them
  --etcd PATH         etcd's binary (default: the pinned peer)
  --benchmark PATH    etcd's load tool (default: the pinned peer)
  --keelson PATH      keelson's binary (default: bin/keelson of the checkout)
  --dir PATH          where the servers' data goes (default $TMPDIR); a real disk, not tmpfs
  --out PATH          where the CSV goes (default bench/results)
  --readme PATH       page that gets table and plots (default: bench/README.md, for a full run)
  --report FILE,...   run nothing: build table and plots from these CSV files; a later one's rows replace an earlier one's
  --list              name the scenarios
";

/// What the command line asked for.
#[derive(Debug)]
pub struct Args {
    pub quick: bool,
    pub only: Vec<String>,
    pub runs: Option<u32>,
    pub servers: Vec<Kind>,
    pub etcd: PathBuf,
    pub benchmark: PathBuf,
    pub keelson: PathBuf,
    pub dir: PathBuf,
    pub out: PathBuf,
    pub readme: Option<PathBuf>,
    pub report: Vec<PathBuf>,
    pub list: bool,
    pub help: bool,
}

/// The checkout that this runs in: cargo says so at run time, where what it said at compile time
/// may be another checkout that shares the target directory.
pub fn checkout() -> PathBuf {
    let bench = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("bench"), PathBuf::from);
    bench.parent().map(Into::into).unwrap_or(bench)
}

/// Where `e2e/peers/build.sh` puts etcd and its load tool.
fn peers() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("KEELSON_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("keelson")))
        .unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache/keelson"))
        .join("peers/bin")
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Into::into).collect()
}

pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Args> {
    let mut args = Args {
        quick: false,
        only: vec![],
        runs: None,
        servers: vec![Kind::Etcd, Kind::Keelson],
        etcd: peers().join("etcd"),
        benchmark: peers().join("benchmark"),
        keelson: checkout().join("bin/keelson"),
        dir: std::env::temp_dir(),
        out: checkout().join("bench/results"),
        readme: None,
        report: vec![],
        list: false,
        help: false,
    };
    while let Some(word) = words.next() {
        let (flag, mut given) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let mut value = || match given.take().or_else(|| words.next()) {
            Some(value) => Ok(value),
            None => bail!("{flag} needs a value"),
        };
        match flag.as_str() {
            "--quick" => args.quick = true,
            "--list" => args.list = true,
            "--help" | "-h" => args.help = true,
            "--only" => args.only = list(&value()?),
            "--runs" => args.runs = Some(value()?.parse()?),
            "--servers" => {
                args.servers = list(&value()?).iter().map(|s| s.parse()).collect::<Result<_>>()?;
            }
            "--etcd" => args.etcd = value()?.into(),
            "--benchmark" => args.benchmark = value()?.into(),
            "--keelson" => args.keelson = value()?.into(),
            "--dir" => args.dir = value()?.into(),
            "--out" => args.out = value()?.into(),
            "--readme" => args.readme = Some(value()?.into()),
            "--report" => args.report = list(&value()?).into_iter().map(Into::into).collect(),
            _ => bail!("unknown flag {flag}\n\n{USAGE}"),
        }
    }
    if args.servers.is_empty() || args.runs == Some(0) {
        bail!("nothing to run");
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_values_after_a_space_or_an_equals_sign() {
        let words = ["--quick", "--only=put-1,list", "--servers", "etcd", "--runs", "5"];
        let args = parse(words.into_iter().map(Into::into)).unwrap();
        assert!(args.quick);
        assert_eq!(args.only, ["put-1", "list"]);
        assert_eq!(args.servers, [Kind::Etcd]);
        assert_eq!(args.runs, Some(5));
        assert!(parse(["--nope".to_owned()].into_iter()).is_err());
    }
}
