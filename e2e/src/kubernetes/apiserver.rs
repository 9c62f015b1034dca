//! One kube-apiserver on loopback with the store under test behind it: secrets made on the spot,
//! no other Kubernetes component beside it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use crate::kubernetes::client::Client;
use crate::ports::Reservation;
use crate::{program, wait};

/// How long events live. Short, so that the store's leases end within the test.
pub const EVENT_TTL: Duration = Duration::from_secs(20);
/// How often the apiserver compacts the store, to where it was an interval before. Watches of
/// events hear of a revision only by events: once none are written, not until the last ones expire.
/// The interval is longer, so that a watch can still go on from there.
pub const COMPACTION_INTERVAL: Duration = EVENT_TTL.saturating_add(Duration::from_secs(10));

/// In its folder: what it finds at /etc/hosts, if that is not the machine's.
const HOSTS: &str = "hosts";
const START_LIMIT: Duration = Duration::from_secs(90);
const TOKEN: &str = "e2e-admin";
const TAIL_LINES: usize = 20;
const TAIL_COLUMNS: usize = 400;

pub struct ApiServer {
    child: Child,
    dir: TempDir,
    client: Client,
    port: u16,
    store_url: String,
    flags: Vec<String>,
}

impl ApiServer {
    /// Starts one and waits until it is ready. A port lost to another process is tried again.
    pub async fn start(store_url: &str) -> Result<Self> {
        Self::start_with(store_url, &[]).await
    }

    /// The same, with more flags, such as those of a store with certificates.
    pub async fn start_with(store_url: &str, flags: &[String]) -> Result<Self> {
        Self::start_among(store_url, flags, None).await
    }

    /// The same, where names have the addresses that this hosts file says; it needs root.
    pub async fn start_among(store_url: &str, flags: &[String], hosts: Option<&str>) -> Result<Self> {
        const ATTEMPTS: usize = 3;
        let mut attempt = 1;
        loop {
            let dir = TempDir::with_prefix("keelson-e2e-apiserver-")?;
            match Self::launch(store_url, flags, hosts, dir).await {
                Ok(server) => return Ok(server),
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("address already in use") => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn launch(store_url: &str, flags: &[String], hosts: Option<&str>, dir: TempDir) -> Result<Self> {
        let path = |name: &str| dir.path().join(name);
        fs::write(path("tokens"), format!("{TOKEN},admin,1,\"system:masters\"\n"))?;
        let (signing_key, public_key) = key_pair()?;
        fs::write(path("service-account.key"), signing_key)?;
        fs::write(path("service-account.pub"), public_key)?;
        if let Some(hosts) = hosts {
            fs::write(path(HOSTS), hosts)?;
        }
        let port = Reservation::new()?.ports()?.client;
        let mut child = spawn(store_url, flags, dir.path(), port)?;
        match ready(&mut child, port, &path("certs/apiserver.crt")).await {
            Ok(client) => Ok(Self { child, dir, client, port, store_url: store_url.to_owned(), flags: flags.to_vec() }),
            Err(error) => {
                end(&mut child);
                Err(error.context(tail(&path("log"))))
            }
        }
    }

    /// Ends it as a crash does; its clients find nobody until it returns.
    pub fn goes(&mut self) {
        end(&mut self.child);
    }

    /// Starts it again where it was.
    pub async fn returns(&mut self) -> Result<()> {
        self.child = spawn(&self.store_url, &self.flags, self.dir.path(), self.port)?;
        ready(&mut self.child, self.port, &self.dir.path().join("certs/apiserver.crt")).await?;
        Ok(())
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A kubeconfig for other programs; `as_user` is whose rights they get, the administrator's without it.
    pub fn kubeconfig(&self, as_user: Option<&str>) -> Result<PathBuf> {
        let mut user = json!({ "token": TOKEN });
        if let Some(name) = as_user {
            user["as"] = name.into();
        }
        let certificate = self.dir.path().join("certs/apiserver.crt");
        let server = format!("https://127.0.0.1:{}", self.port);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "e2e",
            "clusters": [{ "name": "e2e", "cluster": { "server": server, "certificate-authority": certificate } }],
            "users": [{ "name": "e2e", "user": user }],
            "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": "e2e" } }],
        });
        let path = self.dir.path().join(format!("kubeconfig-{}", as_user.unwrap_or("admin").replace(':', "-")));
        fs::write(&path, config.to_string())?;
        Ok(path)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The lines of the log that contain `text`.
    pub fn log_lines_with(&self, text: &str) -> Result<Vec<String>> {
        let log = fs::read(self.log_path())?;
        Ok(String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)).map(str::to_string).collect())
    }

    pub fn log_tail(&self) -> String {
        tail(&self.log_path())
    }

    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("kube-apiserver ended: {status}"),
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn spawn(store_url: &str, flags: &[String], dir: &Path, port: u16) -> Result<Child> {
    let path = |name: &str| dir.join(name);
    let log = File::options().create(true).append(true).open(path("log"))?;
    let hosts = path(HOSTS);
    let mut command = match hosts.exists() {
        false => Command::new(program::peer("kube-apiserver")?),
        true => {
            let mut command = Command::new("unshare");
            let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
            command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(hosts);
            command.arg(program::peer("kube-apiserver")?);
            command
        }
    };
    command
        .arg(format!("--etcd-servers={store_url}"))
        .args(flags)
        .arg(format!("--etcd-compaction-interval={}s", COMPACTION_INTERVAL.as_secs()))
        .arg(format!("--event-ttl={}s", EVENT_TTL.as_secs()))
        .args(["--watch-cache=true", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        // The kubernetes service refuses loopback addresses as endpoints.
        .arg("--endpoint-reconciler-type=none")
        .arg(format!("--secure-port={port}"))
        .arg(flag("--cert-dir", &path("certs")))
        .arg(flag("--token-auth-file", &path("tokens")))
        .arg("--authorization-mode=RBAC")
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(flag("--service-account-key-file", &path("service-account.pub")))
        .arg(flag("--service-account-signing-key-file", &path("service-account.key")))
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        // Where it tells that the store lacks a feature.
        .args(["--v=2", "--vmodule=store=4,watcher=4,feature_support_checker=4"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting kube-apiserver")
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn end(child: &mut Child) {
    // Both fail only for a process that has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// The keys that service account tokens would be signed and verified with, as PEM. There are no
/// such tokens here, but the apiserver does not start without.
fn key_pair() -> Result<(String, String)> {
    // What a public key of this curve begins with in DER: SubjectPublicKeyInfo, up to the point.
    const P256_HEADER: &[u8] =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let private = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| anyhow!("no key could be generated"))?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref(), &random).map_err(|error| anyhow!("{error}"))?;
    let public = [P256_HEADER, pair.public_key().as_ref()].concat();
    Ok((pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", &public)))
}

fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", BASE64_STANDARD.encode(der))
}

/// The apiserver writes its own certificate first; what verifies it is trusted from then on.
async fn ready(child: &mut Child, port: u16, certificate: &Path) -> Result<Client> {
    let mut client = None;
    wait::until("kube-apiserver is ready", START_LIMIT, async || {
        if let Some(status) = child.try_wait()? {
            bail!("kube-apiserver ended during its start: {status}");
        }
        let Some(client) = &client else {
            if fs::read_to_string(certificate).is_ok_and(|pem| pem.matches("END CERTIFICATE").count() == 2) {
                client = Some(Client::new(port, TOKEN, certificate)?);
            }
            return Ok(false);
        };
        Ok(client.get("/readyz").await.is_ok_and(|answer| answer.status == 200))
    })
    .await?;
    client.context("ready without a client")
}

fn tail(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    // Most of the log is routine; errors and warnings tell what went wrong.
    let lines: Vec<&str> =
        log.lines().filter(|line| line.starts_with(['W', 'E', 'F']) && !line.contains("Skipping API")).collect();
    let mut tail = String::from("--- last warnings and errors of kube-apiserver ---\n");
    for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        tail.extend(line.chars().take(TAIL_COLUMNS));
        tail.push('\n');
    }
    tail
}
