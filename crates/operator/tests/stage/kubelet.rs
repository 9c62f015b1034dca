//! Everything that makes pods run: scheduler, kubelet, volume provisioner, garbage collector; as simple as they can be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use keelson_operator::api::{EtcdCluster, EtcdMember};
use kube::api::{Api, DeleteParams, Patch, PostParams};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::NAMESPACE;
use super::network::Network;

const PERIOD: Duration = Duration::from_millis(150);

pub struct Kubelet {
    task: JoinHandle<()>,
    state: Arc<Mutex<State>>,
}

struct State {
    network: Network,
    /// What runs as members.
    program: PathBuf,
    /// By UID of the pod.
    processes: BTreeMap<String, Process>,
    story: Vec<String>,
    /// Of every Event so far: this API server forgets them soon.
    reasons: BTreeSet<String>,
}

struct Process {
    child: Option<Child>,
    host: String,
    ip: String,
    exit: Option<i32>,
    /// What was last written into the pod's status.
    told: String,
    log: PathBuf,
}

impl Kubelet {
    pub fn start(client: Client, network: Network, program: PathBuf) -> Self {
        let (processes, story, reasons) = Default::default();
        let state = Arc::new(Mutex::new(State { network, program, processes, story, reasons }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = round(&client, &shared).await {
                    shared.lock().story.push(format!("{error:#}"));
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        Self { task, state }
    }

    /// The reasons of all Events so far.
    pub fn told(&self) -> BTreeSet<String> {
        self.state.lock().reasons.clone()
    }

    /// What happened on stage, and the end of every member's log, for the report of a failed test.
    pub fn story(&self) -> String {
        let state = self.state.lock();
        let mut story = state.story[state.story.len().saturating_sub(30)..].join("\n");
        for process in state.processes.values() {
            let log = fs::read_to_string(&process.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            story += &format!("\n--- {} ---\n{}", process.host, lines[lines.len().saturating_sub(8)..].join("\n"));
        }
        story
    }

    /// Empties the volume behind a claim and makes the claim go, as a node that burns does.
    pub async fn burn(&self, client: &Client, name: &str) -> Result<()> {
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), NAMESPACE);
        let volume = claims.get(name).await?.spec.and_then(|spec| spec.volume_name).context("a bound claim")?;
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        claims.delete(name, &DeleteParams::default()).await?;
        claims.patch(name, &Default::default(), &free).await?;
        let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
        let folder = self.state.lock().network.folder().join(&volume);
        pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
        fs::remove_dir_all(folder)?;
        Ok(())
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
        self.state.lock().processes.values_mut().for_each(Process::end);
    }
}

impl Process {
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn round(client: &Client, state: &Mutex<State>) -> Result<()> {
    provision(client, state).await.context("provisioning")?;
    collect_garbage(client).await.context("collecting garbage")?;
    let events = Api::<Event>::namespaced(client.clone(), NAMESPACE).list(&Default::default()).await?.items;
    state.lock().reasons.extend(events.into_iter().filter_map(|event| event.reason));
    let api = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let pods = api.list(&Default::default()).await?.items;
    let alive: Vec<_> = pods.iter().filter_map(ResourceExt::uid).collect();
    {
        let mut state = state.lock();
        let gone: Vec<_> = state.processes.keys().filter(|uid| !alive.contains(uid)).cloned().collect();
        for uid in gone {
            if let Some(mut process) = state.processes.remove(&uid) {
                process.end();
                state.story.push(format!("{} ended", process.host));
            }
        }
    }
    for pod in pods {
        if let Err(error) = attend(client, &api, &pod, state).await {
            state.lock().story.push(format!("{}: {error:#}", pod.name_any()));
        }
    }
    Ok(())
}

async fn attend(client: &Client, api: &Api<Pod>, pod: &Pod, state: &Mutex<State>) -> Result<()> {
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let spec = pod.spec.as_ref().context("a pod has a spec")?;
    if pod.metadata.deletion_timestamp.is_some() {
        if let Some(mut process) = state.lock().processes.remove(&uid) {
            process.end();
        }
        api.delete(&name, &DeleteParams::default().grace_period(0)).await?;
        return Ok(());
    }
    if spec.node_name.is_none() {
        return bind(client, &name).await;
    }
    let image = spec.containers[0].image.clone().unwrap_or_default();
    if image.contains("missing") {
        let waiting = json!({ "reason": "ImagePullBackOff", "message": format!("{image} does not exist") });
        return tell(api, &name, state, &uid, "Pending", None, false, json!({ "state": { "waiting": waiting } })).await;
    }
    if !run(client, pod, state).await? {
        return Ok(());
    }
    let (ip, exit, last) = {
        let mut state = state.lock();
        let process = state.processes.get_mut(&uid).context("just started")?;
        if let Some(status) = process.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            (process.child, process.exit) = (None, Some(status.code().unwrap_or(137)));
        }
        (process.ip.clone(), process.exit.filter(|_| process.child.is_none()), process.exit)
    };
    let ready = exit.is_none() && answers(&ip).await;
    let now = match exit {
        Some(code) => json!({ "waiting": { "reason": "CrashLoopBackOff", "message": format!("exit code {code}") } }),
        None => json!({ "running": {} }),
    };
    let last = last.map(|code| json!({ "terminated": { "exitCode": code, "reason": "Error" } }));
    let container = json!({ "state": now, "lastState": last });
    tell(api, &name, state, &uid, "Running", Some(&ip), ready, container).await
}

/// Starts the member's process if its volume is there; true once there is, or was, one.
async fn run(client: &Client, pod: &Pod, state: &Mutex<State>) -> Result<bool> {
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    if state.lock().processes.get(&uid).is_some_and(|process| process.child.is_some()) {
        return Ok(true);
    }
    let claim = Api::<PersistentVolumeClaim>::namespaced(client.clone(), NAMESPACE).get_opt(&name).await?;
    let Some(volume) = claim.and_then(|claim| claim.spec?.volume_name) else {
        return Ok(false);
    };
    let spec = pod.spec.as_ref().context("a pod has a spec")?;
    let host = format!("{name}.{}.{NAMESPACE}.svc", spec.subdomain.as_deref().unwrap_or_default());
    let mut state = state.lock();
    let data = state.network.folder().join(&volume);
    let known = state.processes.get(&uid).map(|process| process.ip.clone());
    let ip = match known {
        Some(ip) => ip,
        None => state.network.address(&host)?.to_string(),
    };
    let args = spec.containers[0].args.clone().unwrap_or_default();
    let here = |arg: &String| arg.replace("0.0.0.0", &ip).replace("/var/lib/keelson", &data.display().to_string());
    let args: Vec<_> = args.iter().map(here).collect();
    let log = state.network.folder().join(format!("{name}.log"));
    let child = state.network.spawn(&state.program, &args, &log)?;
    state.story.push(format!("{host} starts at {ip}"));
    let exit = state.processes.get(&uid).and_then(|process| process.exit);
    let process = Process { child: Some(child), host, ip, exit, told: String::new(), log };
    state.processes.insert(uid, process);
    Ok(true)
}

async fn bind(client: &Client, pod: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": pod },
        "target": { "apiVersion": "v1", "kind": "Node", "name": "node-1" },
    });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/binding");
    let request = http::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(&binding)?)?;
    client.request_text(request).await?;
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "a pod's status has that many sides")]
async fn tell(
    api: &Api<Pod>,
    name: &str,
    state: &Mutex<State>,
    uid: &str,
    phase: &str,
    ip: Option<&str>,
    ready: bool,
    container: serde_json::Value,
) -> Result<()> {
    let truth = |yes: bool| if yes { "True" } else { "False" };
    let status = json!({
        "phase": phase,
        "podIP": ip,
        "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "Ready", "status": truth(ready) },
        ],
        "containerStatuses": [{
            "name": "keelson", "image": "", "imageID": "", "restartCount": 0, "ready": ready,
            "state": container["state"], "lastState": container["lastState"],
        }],
    });
    let text = status.to_string();
    if state.lock().processes.get(uid).is_some_and(|process| process.told == text) {
        return Ok(());
    }
    api.patch_status(name, &Default::default(), &Patch::Merge(json!({ "metadata": { "uid": uid }, "status": status }))).await?;
    if let Some(process) = state.lock().processes.get_mut(uid) {
        process.told = text;
    }
    Ok(())
}

/// What the pod's readiness probe asks.
async fn answers(ip: &str) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect((ip, 2381)).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: member\r\n\r\n").await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        Some(answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200"))
    };
    tokio::time::timeout(Duration::from_secs(2), asked).await.ok().flatten().unwrap_or(false)
}

/// Binds claims to volumes that are folders, and lets go of claims that no pod uses.
async fn provision(client: &Client, state: &Mutex<State>) -> Result<()> {
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), NAMESPACE);
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    for claim in claims.list(&Default::default()).await?.items {
        let name = claim.name_any();
        if claim.metadata.deletion_timestamp.is_some() {
            if pods.get_opt(&name).await?.is_none() {
                claims.patch(&name, &Default::default(), &Patch::Merge(json!({ "metadata": { "finalizers": null } }))).await?;
            }
            continue;
        }
        if claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some()) {
            continue;
        }
        let volume = format!("pv-{}", claim.uid().unwrap_or_default());
        let folder = state.lock().network.folder().join(&volume);
        fs::create_dir_all(&folder)?;
        let object: PersistentVolume = serde_json::from_value(json!({
            "metadata": { "name": volume },
            "spec": {
                "capacity": { "storage": "8Gi" },
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "hostPath": { "path": folder },
            },
        }))?;
        Api::all(client.clone()).create(&PostParams::default(), &object).await?;
        claims.patch(&name, &Default::default(), &Patch::Merge(json!({ "spec": { "volumeName": volume } }))).await?;
        claims.patch_status(&name, &Default::default(), &Patch::Merge(json!({ "status": { "phase": "Bound" } }))).await?;
    }
    Ok(())
}

/// What belongs to clusters that are gone, and pods of members that are gone.
async fn collect_garbage(client: &Client) -> Result<()> {
    let clusters = Api::<EtcdCluster>::namespaced(client.clone(), NAMESPACE);
    sweep::<EtcdMember, _>(client, &clusters).await?;
    sweep::<Service, _>(client, &clusters).await?;
    sweep::<Secret, _>(client, &clusters).await?;
    sweep::<PodDisruptionBudget, _>(client, &clusters).await?;
    sweep::<Pod, _>(client, &Api::<EtcdMember>::namespaced(client.clone(), NAMESPACE)).await
}

/// Deletes objects whose owner is not among `owners`.
async fn sweep<K, O>(client: &Client, owners: &Api<O>) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    O: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), NAMESPACE);
    // Before the owners, so that no owner is younger than what was listed.
    let objects = api.list(&Default::default()).await?.items;
    let alive: Vec<_> = owners.list(&Default::default()).await?.iter().filter_map(ResourceExt::uid).collect();
    for object in objects.iter().filter(|object| object.meta().deletion_timestamp.is_none()) {
        let owners = object.owner_references();
        if !owners.is_empty() && !owners.iter().any(|owner| alive.contains(&owner.uid)) {
            api.delete(&object.name_any(), &DeleteParams::default()).await?;
        }
    }
    Ok(())
}
