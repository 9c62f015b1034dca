//! A state store with any of its files damaged or gone is refused, or the read that meets the damage fails; either way
//! somebody is told which file it is and what to do. Nothing is ever silently less than it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{DefragmentRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest};
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;

/// The log lets go of entries 256 at a time, and keeps 50.
const KEYS: usize = 400;
const FLAGS: &[&str] = &["--log-level", "warn", "--snapshot-count", "50"];
const LIMIT: Duration = Duration::from_secs(20);
/// Each of them has a file of its own.
const TABLES: usize = 4;
const ADVICE: [&str; 3] = ["is damaged", "remove this member", "restore a backup"];

/// A killed server, and a copy of its data that every damage begins with.
struct Patient {
    server: Server,
    sound: PathBuf,
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status()?;
    ensure!(copied.success(), "cp: {copied}");
    Ok(())
}

impl Patient {
    /// Its state is on disk as tables, and its log does not reach back to the beginning.
    async fn new() -> Result<Self> {
        let mut server = Server::start(Program::Keelson, FLAGS).await?;
        let mut kv = KvClient::connect(server.client_url()).await?;
        for i in 0..KEYS {
            kv.put(PutRequest { key: format!("k/{i:03}").into(), value: vec![b'v'; 100].into(), ..Default::default() }).await?;
        }
        // Rewriting the tables begins with writing out what is in memory.
        MaintenanceClient::connect(server.client_url()).await?.defragment(DefragmentRequest {}).await?;
        let log = server.data_dir().join("log");
        wait::until("the log has let go of entries", LIMIT, async || has_been_purged(&log)).await?;
        server.kill();
        let sound = server.file("sound");
        copy(&server.data_dir(), &sound)?;
        Ok(Self { server, sound })
    }

    fn state(&self) -> PathBuf {
        self.server.data_dir().join("state")
    }

    /// Files of the sound state whose names begin or end so.
    fn files(&self, part: &str) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.sound.join("state"))? {
            let name = entry?.file_name().into_string().ok().context("a name")?;
            if name.starts_with(part) || name.ends_with(part) {
                files.push(self.state().join(name));
            }
        }
        ensure!(!files.is_empty(), "no {part}");
        Ok(files)
    }

    /// Whether a damage is noticed; if so by an error with the advice and `named`, if not because nothing is missing.
    async fn notices(&mut self, damage: impl FnOnce() -> Result<()>, named: &str) -> Result<bool> {
        fs::remove_dir_all(self.server.data_dir())?;
        copy(&self.sound, &self.server.data_dir())?;
        damage()?;
        let before = self.server.log().len();
        let is_up = match self.server.restart().await {
            Ok(()) => true,
            Err(error) => {
                let status = self.server.exit_status()?.with_context(|| format!("the server hangs: {error:#}"))?;
                ensure!(status.code() == Some(65), "ended with {status}\n{}", self.server.log_tail());
                false
            }
        };
        let is_noticed = !is_up || read_all(&self.server).await.is_err();
        if is_noticed {
            let parts: Vec<&str> = ADVICE.into_iter().chain([named]).collect();
            let server = &self.server;
            wait::until(&format!("the log says {parts:?}"), LIMIT, async || {
                Ok(parts.iter().all(|part| server.log()[before..].contains(*part)))
            })
            .await
            .with_context(|| server.log_tail())?;
        }
        self.server.kill();
        Ok(is_noticed)
    }
}

/// Whether the log has the mark that says so.
fn has_been_purged(log: &Path) -> Result<bool> {
    const MARK: &[u8] = b"\0\0\0\x06purged";
    for entry in fs::read_dir(log)? {
        // One that is being made, or removed, may be gone.
        if fs::read(entry?.path()).is_ok_and(|bytes| bytes.windows(MARK.len()).any(|window| window == MARK)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads all keys, and all that ever happened to them.
async fn read_all(server: &Server) -> Result<()> {
    let range = RangeRequest { key: "k/".into(), range_end: "k0".into(), ..Default::default() };
    let kvs = KvClient::connect(server.client_url()).await?.range(range).await?.into_inner().kvs;
    ensure!(kvs.len() == KEYS, "{} keys are left", kvs.len());
    let create = WatchCreateRequest { key: "k/".into(), range_end: "k0".into(), start_revision: 2, ..Default::default() };
    let requests = tokio_stream::iter([WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }]);
    let mut watch = WatchClient::connect(server.client_url()).await?.watch(requests).await?.into_inner();
    let mut seen = 0;
    while seen < KEYS {
        let response = tokio::time::timeout(LIMIT, watch.message()).await??.context("the watch has ended")?;
        ensure!(!response.canceled, "canceled: {}", response.cancel_reason);
        seen += response.events.len();
    }
    Ok(())
}

#[tokio::test]
async fn a_damaged_state_store_is_noticed_and_the_file_and_the_way_out_are_named() -> Result<()> {
    let mut patient = Patient::new().await?;
    assert!(!patient.notices(|| Ok(()), "").await?, "it is sound to begin with");

    let state = patient.state();
    let manifest = patient.files("MANIFEST-")?.pop().context("no manifest")?;
    let current = state.join("CURRENT");
    let shown = state.display().to_string();
    let gone = || {
        fs::remove_dir_all(&state)?;
        Ok(fs::create_dir(&state)?)
    };
    assert!(patient.notices(gone, &shown).await?, "an emptied folder");
    assert!(patient.notices(|| Ok(fs::remove_file(&current)?), &current.display().to_string()).await?, "no CURRENT");
    assert!(patient.notices(|| Ok(fs::write(&current, "")?), &shown).await?, "an empty CURRENT");
    assert!(patient.notices(|| Ok(fs::remove_file(&manifest)?), &shown).await?, "no manifest");
    assert!(patient.notices(|| Ok(fs::write(&manifest, "")?), &shown).await?, "an empty manifest");
    // It may be as it was a moment before: then the log has the rest.
    let half = || {
        let bytes = fs::read(&manifest)?;
        Ok(fs::write(&manifest, &bytes[..bytes.len() / 2])?)
    };
    patient.notices(half, "").await?;

    // Tables that were rewritten may still lie there; nobody misses those.
    let (mut removed, mut flipped) = (0, 0);
    for table in patient.files(".sst")? {
        let name = table.file_name().context("a name")?.to_string_lossy().into_owned();
        removed += usize::from(patient.notices(|| Ok(fs::remove_file(&table)?), &name).await?);
        let flip = || {
            let mut bytes = fs::read(&table)?;
            // Rows begin at the first byte.
            bytes[20] ^= 0x10;
            Ok(fs::write(&table, bytes)?)
        };
        flipped += usize::from(patient.notices(flip, &name).await?);
    }
    assert!(removed >= TABLES && flipped >= TABLES, "of the tables, {removed} were missed and {flipped} found damaged");
    Ok(())
}
