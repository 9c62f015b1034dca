//! Scheduler and kubelet: what makes pods run, as simple as they can be, and what goes wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, PodSpec, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, Patch};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::network::Network;
use super::{NAMESPACE, housekeeping};

const PERIOD: Duration = Duration::from_millis(150);
/// A process that ended is not started again sooner.
const BACKOFF: Duration = Duration::from_secs(2);

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
    /// Reason and note of every Event so far: this API server forgets them soon.
    events: BTreeSet<(String, String)>,
    /// Images cannot be pulled.
    offline: bool,
    /// Members that cannot run for now.
    stopped: BTreeSet<String>,
    /// How many processes were started.
    starts: usize,
}

impl State {
    fn new(network: Network, program: PathBuf) -> Arc<Mutex<Self>> {
        let (processes, story, events, stopped) = Default::default();
        let (offline, starts) = Default::default();
        Arc::new(Mutex::new(Self { network, program, processes, story, events, offline, stopped, starts }))
    }
}

struct Process {
    child: Option<Child>,
    host: String,
    ip: String,
    exit: Option<i32>,
    ended: Instant,
    /// What was last written into the pod's status.
    told: String,
    log: PathBuf,
}

impl Kubelet {
    pub fn start(client: Client, network: Network, program: PathBuf) -> Self {
        let state = State::new(network, program);
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

    /// One that does nothing.
    pub fn absent(network: Network) -> Self {
        Self { task: tokio::spawn(async {}), state: State::new(network, PathBuf::new()) }
    }

    /// The reasons of all Events so far.
    pub fn told(&self) -> BTreeSet<String> {
        self.state.lock().events.iter().map(|(reason, _)| reason.clone()).collect()
    }

    /// Whether an Event with this reason has told of `what`.
    pub fn has_told(&self, reason: &str, what: &str) -> bool {
        self.state.lock().events.iter().any(|(r, note)| r == reason && note.contains(what))
    }

    /// How many processes were started so far: who counts twice sees whether any member was touched.
    pub fn starts(&self) -> usize {
        self.state.lock().starts
    }

    /// Whether images can be pulled from now on.
    pub fn online(&self, online: bool) {
        self.state.lock().offline = !online;
    }

    /// Ends the processes of these members and starts none for them until it is called without them.
    pub fn stop(&self, members: &[&str]) {
        let mut state = self.state.lock();
        state.stopped = members.iter().map(ToString::to_string).collect();
        let hosts: Vec<_> = members.iter().map(|member| format!("{member}.")).collect();
        let named = state.processes.values_mut().filter(|process| hosts.iter().any(|host| process.host.starts_with(host)));
        named.for_each(Process::end);
    }

    /// Ends a member's process and does something to its data directory before it is started again.
    pub async fn spoil(&self, client: &Client, name: &str, how: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), NAMESPACE);
        let volume = claims.get(name).await?.spec.and_then(|spec| spec.volume_name).context("a bound claim")?;
        let data = {
            let mut state = self.state.lock();
            let host = format!("{name}.");
            state.processes.values_mut().filter(|process| process.host.starts_with(&host)).for_each(Process::end);
            state.network.folder().join(&volume).join("data")
        };
        ensure!(data.is_dir(), "{} is not there", data.display());
        // It is started again after a while only.
        how(&data)
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
    /// As `kill -9` does.
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has ended already.
            let _ = child.kill();
            let _ = child.wait();
            (self.exit, self.ended) = (Some(137), Instant::now());
        }
    }
}

async fn round(client: &Client, state: &Mutex<State>) -> Result<()> {
    let folder = state.lock().network.folder().to_path_buf();
    housekeeping::provision(client, &folder).await.context("provisioning")?;
    housekeeping::collect_garbage(client).await.context("collecting garbage")?;
    let events = Api::<Event>::namespaced(client.clone(), NAMESPACE).list(&Default::default()).await?.items;
    let told = events.into_iter().filter_map(|event| Some((event.reason?, event.note.unwrap_or_default())));
    state.lock().events.extend(told);
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
        return schedule(client, api, &name).await;
    }
    let image = spec.containers[0].image.clone().unwrap_or_default();
    let missing = {
        let state = state.lock();
        state.offline && !state.processes.contains_key(&uid)
    };
    if missing {
        let waiting = json!({ "reason": "ImagePullBackOff", "message": format!("{image}: the registry cannot be reached") });
        return tell(api, &name, state, &uid, "Pending", None, false, json!({ "state": { "waiting": waiting } })).await;
    }
    mount_secrets(client, spec, state).await?;
    if !run(client, pod, state).await? {
        return Ok(());
    }
    let (ip, exit, last) = {
        let mut state = state.lock();
        let process = state.processes.get_mut(&uid).context("just started")?;
        if let Some(status) = process.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            (process.child, process.exit, process.ended) = (None, Some(status.code().unwrap_or(137)), Instant::now());
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
    {
        let state = state.lock();
        let known = state.processes.get(&uid);
        let waits = |process: &Process| process.child.is_some() || process.ended.elapsed() < BACKOFF;
        if known.is_some_and(|process| waits(process) || state.stopped.contains(&name)) {
            return Ok(true);
        }
        if state.stopped.contains(&name) {
            return Ok(false);
        }
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
    let mut args: Vec<_> = args.iter().map(|arg| arg.replace("0.0.0.0", &ip)).collect();
    let mut mounted = vec![("/var/lib/keelson".to_string(), data)];
    let mounts = spec.containers[0].volume_mounts.iter().flatten();
    mounted.extend(
        mounts.filter_map(|mount| Some((mount.mount_path.clone(), secret_folder(&state, secret_of(spec, &mount.name)?)))),
    );
    for (path, folder) in mounted {
        args.iter_mut().for_each(|arg| *arg = arg.replace(&path, &folder.display().to_string()));
    }
    let log = state.network.folder().join(format!("{name}.log"));
    let child = state.network.spawn(&state.program, &args, &log)?;
    state.story.push(format!("{host} starts at {ip}"));
    state.starts += 1;
    let exit = state.processes.get(&uid).and_then(|process| process.exit);
    let process = Process { child: Some(child), host, ip, exit, ended: Instant::now(), told: String::new(), log };
    state.processes.insert(uid, process);
    Ok(true)
}

/// The Secret behind a pod's volume.
fn secret_of<'a>(spec: &'a PodSpec, volume: &str) -> Option<&'a str> {
    let volume = spec.volumes.as_ref()?.iter().find(|known| known.name == volume)?;
    volume.secret.as_ref()?.secret_name.as_deref()
}

fn secret_folder(state: &State, secret: &str) -> PathBuf {
    state.network.folder().join(format!("secret-{secret}"))
}

/// Writes the Secrets of a pod where its process looks for them, and again when they were renewed.
async fn mount_secrets(client: &Client, spec: &PodSpec, state: &Mutex<State>) -> Result<()> {
    for volume in spec.volumes.iter().flatten() {
        let Some(name) = secret_of(spec, &volume.name) else {
            continue;
        };
        let secret = Api::<Secret>::namespaced(client.clone(), NAMESPACE).get(name).await?;
        let folder = secret_folder(&state.lock(), name);
        fs::create_dir_all(&folder)?;
        for (file, contents) in secret.data.unwrap_or_default() {
            let path = folder.join(file);
            if fs::read(&path).ok().as_ref() != Some(&contents.0) {
                let new = path.with_extension("new");
                fs::write(&new, contents.0)?;
                fs::rename(new, path)?;
            }
        }
    }
    Ok(())
}

/// Binds a pod to the node of its volume unless that is cordoned or gone, or says that it cannot.
async fn schedule(client: &Client, api: &Api<Pod>, pod: &str) -> Result<()> {
    let nodes = Api::<Node>::all(client.clone()).list(&Default::default()).await?.items;
    let open = |node: &&Node| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true));
    let claim = Api::<PersistentVolumeClaim>::namespaced(client.clone(), NAMESPACE).get_opt(pod).await?;
    let tied = match claim {
        Some(claim) => housekeeping::node_of(client, &claim).await?,
        None => None,
    };
    let Some(tied) = tied else {
        // Its volume is made first.
        return Ok(());
    };
    let Some(node) = nodes.iter().filter(open).find(|node| node.name_any() == tied) else {
        let message = format!("0/{} nodes are available: they are unschedulable, or not that of the volume.", nodes.len());
        let status = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message },
        ] });
        api.patch_status(pod, &Default::default(), &Patch::Merge(json!({ "status": status }))).await?;
        return Ok(());
    };
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": pod },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node.name_any() },
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
