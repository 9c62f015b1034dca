//! keelsonctl with a store, and servers that run on what it restored.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse};
use keelson_api::mvccpb::KeyValue;
use keelson_e2e::ports::Reservation;
use keelson_e2e::program::{Program, keelsonctl};
use keelson_e2e::s3::S3;
use keelson_e2e::server::Server;
use keelson_e2e::wait::until;
use serde_json::Value;
use tokio::process::{Child, Command};
use tonic::transport::Channel;

pub const LIMIT: Duration = Duration::from_secs(60);

/// Where backups go.
pub struct Place {
    pub address: String,
    pub environment: Vec<(&'static str, String)>,
}

impl Place {
    pub fn s3(s3: &S3) -> Self {
        Self { address: s3.address(), environment: s3.environment() }
    }

    pub fn folder(path: &Path) -> Result<Self> {
        Ok(Self { address: path.to_str().context("the path is a text")?.to_owned(), environment: Vec::new() })
    }

    fn command(&self, words: &[&str], args: &[&str]) -> Result<Command> {
        let mut command = Command::new(keelsonctl()?);
        command.env_clear().envs(self.environment.iter().cloned()).stdin(Stdio::null()).kill_on_drop(true);
        command.args(words).arg(&self.address).args(args);
        Ok(command)
    }

    /// Runs a command to its end.
    pub async fn output(&self, words: &[&str], args: &[&str]) -> Result<Output> {
        Ok(self.command(words, args)?.output().await?)
    }

    /// What a command that succeeds prints.
    pub async fn run(&self, words: &[&str], args: &[&str]) -> Result<String> {
        let output = self.output(words, args).await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?} {args:?}: {}\n{told}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What a command that fails says.
    pub async fn refused(&self, words: &[&str], args: &[&str]) -> Result<String> {
        let output = self.output(words, args).await?;
        ensure!(!output.status.success(), "{words:?} {args:?} succeeded");
        Ok(String::from_utf8(output.stderr)?)
    }

    pub async fn list(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.run(&["backup", "list"], &["-w", "json"]).await?)?)
    }

    pub async fn create(&self, server: &Server, more: &[&str]) -> Result<Value> {
        let url = server.client_url();
        let args = [&["--endpoints", &url, "-w", "json"][..], more].concat();
        let printed: Value = serde_json::from_str(&self.run(&["backup", "create"], &args).await?)?;
        Ok(printed[0].clone())
    }

    /// Begins to back up every change.
    pub fn follow(&self, server: &Server) -> Result<Child> {
        let url = server.client_url();
        let mut command = self.command(&["backup", "run"], &["--endpoints", &url, "--upload-every", "100ms"])?;
        Ok(command.spawn()?)
    }

    /// Waits until the newest backup can be restored to where the server is; its name.
    pub async fn caught_up(&self, server: &Server) -> Result<String> {
        let revision = revision(server).await?;
        let mut id = String::new();
        until("the log has the newest revision", LIMIT, async || {
            let Some(newest) = self.list().await?.pop() else { return Ok(false) };
            id = newest["id"].as_str().context("an id")?.to_owned();
            Ok(newest["state"] == "continuous" && newest["lastRevision"] == revision)
        })
        .await?;
        Ok(id)
    }

    /// A server that runs on what was restored.
    pub async fn restored(&self, more: &[&str]) -> Result<Server> {
        let mut server = Server::member(Program::Keelson, "restored", Reservation::new()?.ports()?, &["--log-level", "warn"])?;
        let (data_dir, url) = (server.data_dir(), server.peer_url());
        let cluster = format!("restored={url}");
        let data_dir = data_dir.to_str().context("the path is a text")?.to_owned();
        let args = ["--data-dir", &data_dir, "--name", "restored", "--initial-cluster", &cluster];
        self.run(&["restore"], &[&args[..], &["--initial-advertise-peer-urls", &url], more].concat()).await?;
        server.restart().await?;
        Ok(server)
    }
}

pub async fn kv(server: &Server) -> Result<KvClient<Channel>> {
    Ok(KvClient::connect(server.client_url()).await?.max_decoding_message_size(usize::MAX))
}

/// Keys that come, change and go; each change has a revision of its own.
pub async fn live_on(server: &Server, changes: usize) -> Result<()> {
    let mut kv = kv(server).await?;
    for i in 0..changes {
        let key: Vec<u8> = format!("key/{:02}", i % 20).into();
        if i % 10 == 9 {
            kv.put(put(&key, 1)).await?;
            kv.delete_range(DeleteRangeRequest { key: key.into(), ..Default::default() }).await?;
        } else {
            kv.put(put(&key, 100 + i)).await?;
        }
    }
    Ok(())
}

pub fn put(key: &[u8], len: usize) -> PutRequest {
    let byte = b'a' + u8::try_from(len % 26).unwrap_or_default();
    PutRequest { key: key.to_vec().into(), value: vec![byte; len].into(), ..Default::default() }
}

pub async fn compact(server: &Server, revision: i64) -> Result<()> {
    kv(server).await?.compact(CompactionRequest { revision, physical: true }).await?;
    Ok(())
}

async fn read(server: &Server, revision: i64) -> Result<RangeResponse> {
    let request = RangeRequest { key: b"\0".to_vec().into(), range_end: b"\0".to_vec().into(), revision, ..Default::default() };
    Ok(kv(server).await?.range(request).await?.into_inner())
}

pub async fn keys(server: &Server, revision: i64) -> Result<Vec<KeyValue>> {
    Ok(read(server, revision).await?.kvs)
}

pub async fn revision(server: &Server) -> Result<i64> {
    Ok(read(server, 0).await?.header.context("a header")?.revision)
}
