//! The operator as a process, as its service account.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use keelson_e2e::kubernetes::apiserver::ApiServer;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::NAMESPACE;

const NAME: &str = "keelson-operator";
/// Whom the API server takes the operator for.
pub const ACCOUNT: &str = "system:serviceaccount:keelson-system:keelson-operator";

pub struct Operator {
    child: Child,
    log: PathBuf,
    kubeconfig: PathBuf,
    defaults: Vec<String>,
    _dir: TempDir,
}

impl Operator {
    pub async fn start(apiserver: &ApiServer, client: Client) -> Result<Self> {
        grant(client).await?;
        let dir = TempDir::with_prefix("keelson-operator-")?;
        let log = dir.path().join("log");
        let kubeconfig = apiserver.kubeconfig(Some(ACCOUNT))?;
        let defaults = ["--default-version=3.7.3", "--default-image-repository=registry.stage/keelson"];
        let defaults = defaults.map(String::from).to_vec();
        let child = spawn(&kubeconfig, &log, &defaults)?;
        Ok(Self { child, log, kubeconfig, defaults, _dir: dir })
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

    /// Starts it again where it was, as its pod's kubelet does.
    pub fn again(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(&self.kubeconfig, &self.log, &self.defaults)?;
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

fn spawn(kubeconfig: &Path, log: &Path, defaults: &[String]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    Command::new(env!("CARGO_BIN_EXE_keelson-operator"))
        .args(["--log-format=text", "--listen=127.0.0.1:0", "--lease-namespace=stage"])
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

/// The chart's own rules, and nothing more.
async fn grant(client: Client) -> Result<()> {
    let everywhere = ["clusters", "nodes"].map(rules).into_iter().collect::<Result<Vec<_>>>()?.concat();
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
