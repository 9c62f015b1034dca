//! The image of servers and operator, packed without a container engine. The Dockerfile calls this too, so both ways
//! give the same files.

mod archive;
mod root;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::Serialize;

pub use root::Root;

const USER: u32 = 65532;
const DATA: &str = "var/lib/keelson";
const PROGRAMS: &str = "usr/local/bin";

/// How containers of an image are started; the names are those of the OCI image specification.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Start {
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Packs or lays out keelson's own programs.
#[derive(clap::Args)]
pub struct Keelson {
    /// Where the programs are.
    #[arg(long, default_value = "bin")]
    from: PathBuf,
    /// The name the image has in the archive.
    #[arg(long, default_value = concat!("ghcr.io/keelson/keelson:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// The archive: an OCI image layout, as `ctr images import`, `podman load` and `docker load` take it.
    #[arg(long, default_value = "bin/image.tar")]
    out: PathBuf,
    /// Writes the files into this folder instead of an archive; their owners need root.
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Keelson {
    pub fn run(&self) -> Result<()> {
        let root = keelson(&self.from)?;
        match &self.folder {
            Some(folder) => root.write(folder),
            None => archive::write(&self.out, &self.name, &root, &keelson_start()),
        }
    }
}

/// Packs other programs, for tests that have no registry either.
#[derive(clap::Args)]
pub struct Other {
    #[arg(long)]
    name: String,
    #[arg(long)]
    out: PathBuf,
    /// The program with its arguments.
    #[arg(long, value_delimiter = ' ')]
    entrypoint: Vec<String>,
    /// FILE=PATH-IN-IMAGE
    #[arg(required = true)]
    files: Vec<String>,
}

impl Other {
    pub fn run(&self) -> Result<()> {
        let mut root = Root::default();
        root.folder("tmp", 0o1777, 0);
        for file in &self.files {
            let parts = file.split_once('=');
            let (source, path) = parts.ok_or_else(|| anyhow::anyhow!("{file}: write FILE=PATH-IN-IMAGE"))?;
            root.program(Path::new(source), path.trim_start_matches('/'))?;
        }
        let start = Start { user: "0:0".into(), entrypoint: self.entrypoint.clone(), ..Start::default() };
        archive::write(&self.out, &self.name, &root, &start)
    }
}

fn keelson(from: &Path) -> Result<Root> {
    let mut root = Root::default();
    root.folder("tmp", 0o1777, 0);
    root.folder(DATA, 0o700, USER);
    root.text("etc/passwd", &format!("root:x:0:0::/:/\nkeelson:x:{USER}:{USER}::/{DATA}:/\n"));
    root.text("etc/group", &format!("root:x:0:\nkeelson:x:{USER}:\n"));
    // Without it, names of /etc/hosts come last.
    root.text("etc/nsswitch.conf", "hosts: files dns\n");
    for name in ["keelson", "keelson-operator", "keelsonctl"] {
        let source = from.join(name);
        ensure!(source.exists(), "{} is missing: run `make build` first", source.display());
        root.program(&source, &format!("{PROGRAMS}/{name}"))?;
    }
    Ok(root)
}

fn keelson_start() -> Start {
    let port = |port: u16| (format!("{port}/tcp"), BTreeMap::new());
    let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_string());
    Start {
        user: format!("{USER}:{USER}"),
        env: vec![format!("PATH=/{PROGRAMS}")],
        entrypoint: vec![format!("/{PROGRAMS}/keelson")],
        working_dir: format!("/{DATA}"),
        exposed_ports: [port(2379), port(2380)].into(),
        labels: [
            label("title", "keelson"),
            label("version", env!("CARGO_PKG_VERSION")),
            label("source", env!("CARGO_PKG_REPOSITORY")),
            label("licenses", "Apache-2.0"),
        ]
        .into(),
    }
}
