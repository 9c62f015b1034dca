//! Scheduler, kubelets and provisioner for many pods: they do what an event tells them, and nothing between events.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use keelson_operator::api::{annotation, label};
use kube::api::{Api, DeleteParams, Patch, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::members::{Process, Stores};
use crate::stage::NAMESPACE;

const AT_A_TIME: usize = 16;

#[derive(Clone)]
pub struct Nodes(Arc<Inner>);

struct Inner {
    client: Client,
    stores: Stores,
    /// By UID of the pod.
    processes: Mutex<HashMap<String, Process>>,
    /// By UID, too: two events of one pod may be attended at the same time.
    started: Mutex<HashSet<String>>,
    addresses: Mutex<u16>,
}

/// Ends with it.
pub struct Running([JoinHandle<()>; 2]);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Nodes {
    pub fn start(client: Client) -> Running {
        let (stores, processes, started, addresses) = Default::default();
        let nodes = Self(Arc::new(Inner { client: client.clone(), stores, processes, started, addresses }));
        let pods = watcher(Api::<Pod>::namespaced(client.clone(), NAMESPACE), watcher::Config::default());
        let claims = watcher(Api::<PersistentVolumeClaim>::namespaced(client, NAMESPACE), watcher::Config::default());
        let kubelet = nodes.clone();
        let kubelet = pods.default_backoff().applied_objects().for_each_concurrent(AT_A_TIME, move |pod| {
            let kubelet = kubelet.clone();
            async move {
                if let Ok(pod) = pod {
                    told(kubelet.attend(&pod).await);
                }
            }
        });
        let provisioner = claims.default_backoff().applied_objects().for_each_concurrent(AT_A_TIME, move |claim| {
            let nodes = nodes.clone();
            async move {
                if let Ok(claim) = claim {
                    told(nodes.provision(&claim).await);
                }
            }
        });
        Running([tokio::spawn(kubelet), tokio::spawn(provisioner)])
    }

    async fn attend(&self, pod: &Pod) -> Result<()> {
        let api = Api::<Pod>::namespaced(self.0.client.clone(), NAMESPACE);
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        if pod.metadata.deletion_timestamp.is_some() {
            self.0.processes.lock().remove(&uid);
            let only = DeleteParams::default().grace_period(0);
            return match api.delete(&name, &only).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => Ok(other.map(drop)?),
            };
        }
        let spec = pod.spec.as_ref().context("a pod has a spec")?;
        if spec.node_name.is_none() {
            return self.bind(&name).await;
        }
        if !self.0.started.lock().insert(uid.clone()) {
            return Ok(());
        }
        let ip = self.address();
        let cluster = pod.labels().get(label::CLUSTER).context("a member's pod")?;
        let url = format!("http://{name}.{cluster}-peers.{NAMESPACE}.svc:2380");
        let founds = pod.annotations().get(annotation::INITIAL_CLUSTER_STATE).is_some_and(|state| state == "new");
        let process = self.0.stores.start(cluster, &name, &url, ip, founds).await?;
        self.0.processes.lock().insert(uid.clone(), process);
        let status = json!({
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{ "ip": ip }],
            "conditions": [{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "True" }],
            "containerStatuses": [{
                "name": "keelson", "image": "", "imageID": "", "restartCount": 0, "ready": true, "state": { "running": {} },
            }],
        });
        let status = Patch::Merge(json!({ "metadata": { "uid": uid }, "status": status }));
        api.patch_status(&name, &Default::default(), &status).await?;
        Ok(())
    }

    async fn bind(&self, pod: &str) -> Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": { "name": pod },
            "target": { "apiVersion": "v1", "kind": "Node", "name": "node-1" },
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/binding");
        let request = http::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(&binding)?)?;
        self.0.client.request_text(request).await?;
        Ok(())
    }

    async fn provision(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        if claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some()) {
            return Ok(());
        }
        let (name, client) = (claim.name_any(), &self.0.client);
        let volume = format!("pv-{}", claim.uid().unwrap_or_default());
        let object: PersistentVolume = serde_json::from_value(json!({
            "metadata": { "name": volume },
            "spec": {
                "capacity": { "storage": "8Gi" },
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "hostPath": { "path": "/nowhere" },
            },
        }))?;
        Api::all(client.clone()).create(&PostParams::default(), &object).await?;
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), NAMESPACE);
        let merge = |patch: Value| Patch::Merge(patch);
        claims.patch(&name, &Default::default(), &merge(json!({ "spec": { "volumeName": volume } }))).await?;
        claims.patch_status(&name, &Default::default(), &merge(json!({ "status": { "phase": "Bound" } }))).await?;
        Ok(())
    }

    /// Loopback has sixteen million addresses.
    fn address(&self) -> Ipv4Addr {
        let mut given = self.0.addresses.lock();
        *given += 1;
        let [high, low] = given.to_be_bytes();
        let process = u8::try_from(std::process::id() % 64).unwrap_or_default();
        Ipv4Addr::new(127, 128 + process, high, low)
    }
}

/// What was changed by others meanwhile comes back as another event.
fn told(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("a simulated node: {error:#}");
    }
}
