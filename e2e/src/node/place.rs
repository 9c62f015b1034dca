//! A namespace for one test, with the operator looking after it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Load, helm, kubectl};
use crate::wait;

/// Longest that any change of a cluster may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(240);
/// Between two looks at what takes a run of kubectl.
pub const LOOK: Duration = Duration::from_millis(300);

/// Tests run beside each other, but for those that do something to what all of them need: nodes, or the operator.
static SHARED: RwLock<()> = RwLock::const_new(());
/// Helm installs one at a time.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// Installs the operator with Helm, if it is not there; waits until it runs.
pub async fn install() -> Result<()> {
    let _one = INSTALLING.lock().await;
    let chart = "charts/keelson-operator";
    let args = ["upgrade", "--install", "keelson-operator", chart, "--namespace", "keelson-system", "--create-namespace"];
    helm(&[&args[..], &["--wait", "--timeout", "2m"]].concat()).await?;
    Ok(())
}

pub struct Place {
    namespace: String,
    _with_others: Option<RwLockReadGuard<'static, ()>>,
    _alone: Option<RwLockWriteGuard<'static, ()>>,
}

impl Place {
    /// An empty namespace that takes only pods of the `restricted` Pod Security Standard.
    pub async fn new(name: &str) -> Result<Self> {
        let share = SHARED.read().await;
        let mut place = Self::make(name).await?;
        place._with_others = Some(share);
        Ok(place)
    }

    /// The same while no other test runs.
    pub async fn alone(name: &str) -> Result<Self> {
        let share = SHARED.write().await;
        let mut place = Self::make(name).await?;
        place._alone = Some(share);
        Ok(place)
    }

    /// Another namespace for the same test. It must not outlive the first.
    pub async fn neighbour(&self, name: &str) -> Result<Self> {
        Self::make(name).await
    }

    async fn make(name: &str) -> Result<Self> {
        install().await?;
        let namespace = format!("e2e-{name}");
        kubectl(&["delete", "namespace", &namespace, "--ignore-not-found"], None).await?;
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": labels } });
        kubectl(&["create", "-f", "-"], Some(&object.to_string())).await?;
        Ok(Self { namespace, _with_others: None, _alone: None })
    }

    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        kubectl(&[&["--namespace", &self.namespace], args].concat(), None).await
    }

    pub async fn create(&self, name: &str, spec: Value) -> Result<()> {
        let metadata = json!({ "name": name, "namespace": self.namespace });
        let object = json!({ "apiVersion": "keelson.dev/v1alpha1", "kind": "EtcdCluster", "metadata": metadata, "spec": spec });
        kubectl(&["create", "-f", "-"], Some(&object.to_string())).await?;
        Ok(())
    }

    /// Creates a cluster and waits until it has settled; answers how long that took.
    pub async fn set_up(&self, name: &str, spec: Value) -> Result<Duration> {
        self.create(name, spec).await?;
        self.settled(name).await
    }

    /// The same, with a load on it from then on.
    pub async fn under_load(&self, name: &str, spec: Value) -> Result<Load> {
        self.set_up(name, spec).await?;
        Load::start(self.endpoint(name).await?).await
    }

    pub async fn edit(&self, name: &str, spec: Value) -> Result<()> {
        let patch = json!({ "spec": spec }).to_string();
        self.kubectl(&["patch", "etcdcluster", name, "--type", "merge", "--patch", &patch]).await?;
        Ok(())
    }

    /// One object, or a list of them.
    pub async fn get(&self, what: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "--output", "json"], what].concat()).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// False once the object is gone.
    pub async fn exists(&self, kind: &str, name: &str) -> Result<bool> {
        Ok(!self.kubectl(&["get", kind, name, "--ignore-not-found", "--output", "name"]).await?.trim().is_empty())
    }

    /// Waits until clients are served; answers how long that took.
    pub async fn available(&self, name: &str) -> Result<Duration> {
        let began = Instant::now();
        let waits = self.kubectl(&["wait", &format!("etcdcluster/{name}"), "--for=condition=Available", "--timeout=240s"]).await;
        match waits {
            Ok(_) => Ok(began.elapsed()),
            Err(error) => Err(error.context(self.story(name).await)),
        }
    }

    /// Waits until nothing is left to do for the spec as it is now; answers how long that took.
    pub async fn settled(&self, name: &str) -> Result<Duration> {
        let began = Instant::now();
        let waited = wait::until_every(LOOK, &format!("{name} settles"), LIMIT, async || {
            Ok(is_settled(&self.get(&["etcdcluster", name]).await?))
        })
        .await;
        match waited {
            Ok(()) => Ok(began.elapsed()),
            Err(error) => Err(error.context(self.story(name).await)),
        }
    }

    /// What the Service of that name is called inside of that Kubernetes.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc", self.namespace)
    }

    /// Where clients connect to, reachable from this machine.
    pub async fn endpoint(&self, name: &str) -> Result<String> {
        let service = self.get(&["service", name]).await?;
        Ok(format!("http://{}:2379", service["spec"]["clusterIP"].as_str().context("a Service has an address")?))
    }

    /// What the status says of each member, by name.
    pub async fn members(&self, name: &str) -> Result<Vec<Value>> {
        let mut cluster = self.get(&["etcdcluster", name]).await?;
        let Value::Array(members) = cluster["status"]["members"].take() else { bail!("no members in {cluster}") };
        Ok(members)
    }

    /// The name of the member that leads.
    pub async fn leader(&self, name: &str) -> Result<String> {
        let members = self.members(name).await?;
        let leader = members.iter().find(|member| member["role"] == "Leader").context("a leader")?;
        Ok(leader["name"].as_str().context("a name")?.to_string())
    }

    /// What the status says under one condition; null if there is none.
    pub async fn condition(&self, name: &str, kind: &str) -> Result<Value> {
        let cluster = self.get(&["etcdcluster", name]).await?;
        let conditions = cluster["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or(Value::Null))
    }

    /// Waits until a condition has that status and its reason or message says so; answers how long that took.
    pub async fn says(&self, name: &str, kind: &str, status: &str, what: &str) -> Result<Duration> {
        let began = Instant::now();
        let mut last = Value::Null;
        let waited = wait::until_every(LOOK, &format!("{kind} is {status} and says {what:?}"), LIMIT, async || {
            last = self.condition(name, kind).await?;
            let text = format!("{} {}", last["reason"], last["message"]);
            Ok(last["status"] == status && text.contains(what))
        })
        .await;
        match waited {
            Ok(()) => Ok(began.elapsed()),
            Err(error) => Err(error.context(format!("it is {last}")).context(self.story(name).await)),
        }
    }

    /// The folder of a claim's volume, which this machine sees as its node does.
    pub async fn folder(&self, claim: &str) -> Result<PathBuf> {
        let claim = self.get(&["persistentvolumeclaim", claim]).await?;
        let volume = claim["spec"]["volumeName"].as_str().context("a bound claim")?;
        let volume = self.get(&["persistentvolume", volume]).await?;
        let path = volume["spec"]["hostPath"]["path"].as_str().or(volume["spec"]["local"]["path"].as_str());
        Ok(path.context("a volume that is a folder")?.into())
    }

    /// The pods of a cluster.
    pub async fn pods(&self, name: &str) -> Result<Vec<Value>> {
        let mut pods = self.get(&["pods", "--selector", &format!("keelson.dev/cluster={name}")]).await?;
        let Value::Array(pods) = pods["items"].take() else { bail!("no list of pods") };
        Ok(pods)
    }

    /// Reasons of the Events that tell of a cluster.
    pub async fn told(&self) -> Result<Vec<String>> {
        let events = self.get(&["events.events.k8s.io"]).await?;
        let events = events["items"].as_array().cloned().unwrap_or_default();
        Ok(events.iter().filter_map(|event| Some(event["reason"].as_str()?.to_string())).collect())
    }

    /// For the report of a failed test.
    async fn story(&self, name: &str) -> String {
        let mut story = String::new();
        let operator = ["--namespace", "keelson-system", "logs", "deployment/keelson-operator", "--tail=15"];
        for args in [
            &["get", "etcdcluster", name, "--output", "jsonpath={.status}"][..],
            &["get", "pods,persistentvolumeclaims,etcdmembers", "--output", "wide"],
            &["get", "events", "--sort-by", ".lastTimestamp"],
            &["logs", "--selector", "keelson.dev/cluster", "--tail=5", "--prefix"],
            &operator,
        ] {
            story += &format!("$ kubectl {}\n", args.join(" "));
            story += &self.kubectl(args).await.unwrap_or_else(|error| format!("{error:#}\n"));
        }
        story
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The runtime may be ending, so this is not left to it.
        let delete = super::kubectl::command("kubectl");
        let done = delete.and_then(|mut delete| {
            let args = ["delete", "namespace", &self.namespace, "--wait=false"];
            Ok(delete.args(args).stdout(Stdio::null()).status()?)
        });
        if let Err(error) = done {
            eprintln!("namespace {} is left behind: {error:#}", self.namespace);
        }
    }
}

fn is_settled(cluster: &Value) -> bool {
    let (spec, status, generation) = (&cluster["spec"], &cluster["status"], &cluster["metadata"]["generation"]);
    let available = status["conditions"]
        .as_array()
        .is_some_and(|conditions| conditions.iter().any(|c| c["type"] == "Available" && c["status"] == "True"));
    let current = &status["observedGeneration"] == generation && &status["target"]["generation"] == generation;
    let quorum = &status["quorum"];
    let whole = quorum["healthy"] == spec["replicas"] && quorum["voters"] == spec["replicas"];
    available && current && whole && status["operation"].is_null()
}
