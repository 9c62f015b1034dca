//! The operator as a process, as its service account.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use keelson_e2e::kubernetes::apiserver::ApiServer;
use keelson_e2e::ports::Reservation;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::NAMESPACE;

const NAME: &str = "keelson-operator";
/// Whom the API server takes the operator for.
pub const ACCOUNT: &str = "system:serviceaccount:keelson-system:keelson-operator";

pub struct Operator {
    child: Child,
    log: PathBuf,
    kubeconfig: PathBuf,
    /// Where it answers to probes.
    port: u16,
    manner: Manner,
    defaults: Vec<String>,
    _dir: TempDir,
}

/// In what one is not as most: those look after all namespaces, and log for people.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    pub namespace: Option<&'static str>,
    pub logs_json: bool,
}

impl Operator {
    pub async fn start(apiserver: &ApiServer, client: Client, manner: Manner) -> Result<Self> {
        grant(client, manner.namespace).await?;
        let dir = TempDir::with_prefix("keelson-operator-")?;
        let log = dir.path().join("log");
        let kubeconfig = apiserver.kubeconfig(Some(ACCOUNT))?;
        let defaults = ["--default-version=3.7.3", "--default-image-repository=registry.stage/keelson"];
        let defaults = defaults.map(String::from).to_vec();
        let port = Reservation::new()?.ports()?.client;
        let child = spawn(&kubeconfig, &log, port, manner, &defaults)?;
        Ok(Self { child, log, kubeconfig, port, manner, defaults, _dir: dir })
    }

    /// As a crash does: in the middle of whatever it does.
    pub fn kill(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Asks it to end, as Kubernetes does with a pod.
    pub fn terminate(&self) -> Result<()> {
        let asked = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        ensure!(asked.success(), "kill: {asked}");
        Ok(())
    }

    /// Status and body of what it answers, as a probe or Prometheus asks it.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: operator\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("head and body")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, body.to_string()))
    }

    /// Starts it again where it was, as its pod's kubelet does.
    pub fn again(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(&self.kubeconfig, &self.log, self.port, self.manner, &self.defaults)?;
        Ok(())
    }

    /// Puts one with other defaults in its place, as an upgrade of the chart does.
    pub fn upgrade(&mut self, defaults: &[&str]) -> Result<()> {
        self.defaults = defaults.iter().map(ToString::to_string).collect();
        self.again()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- end of the operator's log ---\n{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        }
    }
}

fn spawn(kubeconfig: &Path, log: &Path, port: u16, manner: Manner, defaults: &[String]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    Command::new(env!("CARGO_BIN_EXE_keelson-operator"))
        .arg(format!("--log-format={}", if manner.logs_json { "json" } else { "text" }))
        .args(manner.namespace.map(|namespace| format!("--watch-namespace={namespace}")))
        .arg(format!("--listen=127.0.0.1:{port}"))
        .arg("--lease-namespace=stage")
        .args(defaults)
        .env("KUBECONFIG", kubeconfig)
        .env("POD_NAME", format!("replica-{}", rand_suffix()))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting the operator")
}

/// What the rights of the operator are called.
pub const RIGHTS: &str = NAME;
/// Those that end at a namespace.
const CLUSTERS: &str = "keelson-operator-clusters";

/// The chart's own rules, and nothing more. With a namespace those about clusters end at it, as the chart has it.
async fn grant(client: Client, namespace: Option<&str>) -> Result<()> {
    let mut everywhere = rules("nodes")?;
    match namespace {
        None => everywhere.extend(rules("clusters")?),
        Some(namespace) => {
            let rules = rules("clusters")?;
            let mut role: Role = serde_json::from_value(json!({ "metadata": { "name": CLUSTERS }, "rules": rules }))?;
            let mut bound: RoleBinding = serde_json::from_value(binding("Role"))?;
            (bound.metadata.name, bound.role_ref.name) = (Some(CLUSTERS.into()), CLUSTERS.into());
            for metadata in [&mut role.metadata, &mut bound.metadata] {
                metadata.namespace = Some(namespace.into());
            }
            Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &role).await?;
            Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &bound).await?;
        }
    }
    let role: ClusterRole = serde_json::from_value(json!({ "metadata": { "name": NAME }, "rules": everywhere }))?;
    let bound: ClusterRoleBinding = serde_json::from_value(binding("ClusterRole"))?;
    let election: Role = serde_json::from_value(json!({ "metadata": { "name": NAME }, "rules": rules("election")? }))?;
    let elected: RoleBinding = serde_json::from_value(binding("Role"))?;
    // The second operator on a stage finds them there.
    let _ = Api::all(client.clone()).create(&PostParams::default(), &role).await;
    let _ = Api::all(client.clone()).create(&PostParams::default(), &bound).await;
    let _ = Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &election).await;
    let _ = Api::namespaced(client, NAMESPACE).create(&PostParams::default(), &elected).await;
    Ok(())
}

fn rules(file: &str) -> Result<Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/keelson-operator/files/rbac");
    let rules = fs::read_to_string(folder.join(format!("{file}.yaml")))?;
    serde_yaml_ng::from_str(&rules).with_context(|| format!("the chart's rules {file}"))
}

fn binding(role: &str) -> Value {
    json!({
        "metadata": { "name": NAME },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": NAME },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": ACCOUNT }],
    })
}

fn rand_suffix() -> u32 {
    rand::random()
}
