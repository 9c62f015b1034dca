//! The Kubernetes objects of one cluster, read from the API server and not from a cache.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::certificates::Papers;
use super::pods;
use crate::api::{EtcdCluster, EtcdMember, label};
use crate::render::Names;
use crate::store::Certificates;

#[derive(Debug, thiserror::Error)]
#[error("reading {what}: {source}")]
pub struct ObserveError {
    what: &'static str,
    source: kube::Error,
}

/// Everything of one cluster at one moment.
pub struct Snapshot {
    pub cluster: EtcdCluster,
    pub names: Names,
    pub members: Vec<EtcdMember>,
    pub pods: Vec<Pod>,
    pub claims: Vec<PersistentVolumeClaim>,
    /// Bound ones, by name.
    pub volumes: BTreeMap<String, PersistentVolume>,
    /// Why claims are not bound, by the name of the claim; only where it is known.
    pub unbound: BTreeMap<String, String>,
    /// Read only when something is missing: there may be thousands.
    pub nodes: Option<Vec<Node>>,
    /// Why they could not be. Without them no volume is taken for lost, and pods are made again all the same.
    pub no_nodes: Option<String>,
    pub budget: Option<PodDisruptionBudget>,
    pub peer_service: Option<Service>,
    pub client_service: Option<Service>,
    pub connection: Option<Secret>,
    pub papers: Papers,
    /// What a client of this cluster shows; why there is nothing to show; `None` in plain text.
    pub certificates: Option<Result<Certificates, String>>,
    /// Why members could not start with the certificates they show each other.
    pub no_peer_certificates: Option<String>,
}

impl Snapshot {
    /// `None` if the cluster is gone.
    pub async fn read(client: &Client, names: &Names) -> Result<Option<Self>, ObserveError> {
        let namespace = names.namespace.as_str();
        let of = ListParams::default().labels(&format!("{}={}", label::CLUSTER, names.cluster));
        let failed = |what| move |source| ObserveError { what, source };
        let Some(cluster) = Api::<EtcdCluster>::namespaced(client.clone(), namespace)
            .get_opt(&names.cluster)
            .await
            .map_err(failed("the EtcdCluster"))?
        else {
            return Ok(None);
        };
        let members = Api::<EtcdMember>::namespaced(client.clone(), namespace);
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
        let services = Api::<Service>::namespaced(client.clone(), namespace);
        let budgets = Api::<PodDisruptionBudget>::namespaced(client.clone(), namespace);
        let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
        let mut snapshot = Self {
            members: members.list(&of).await.map_err(failed("EtcdMembers"))?.items.into_iter().map(lean).collect(),
            pods: pods.list(&of).await.map_err(failed("pods"))?.items.into_iter().map(lean_pod).collect(),
            claims: claims.list(&of).await.map_err(failed("volume claims"))?.items.into_iter().map(lean).collect(),
            volumes: BTreeMap::new(),
            unbound: BTreeMap::new(),
            nodes: None,
            no_nodes: None,
            budget: budgets.get_opt(&names.cluster).await.map_err(failed("the disruption budget"))?.map(lean),
            peer_service: services.get_opt(&names.peers()).await.map_err(failed("services"))?.map(lean),
            client_service: services.get_opt(&names.cluster).await.map_err(failed("services"))?.map(lean),
            connection: secrets.get_opt(&names.connection()).await.map_err(failed("the connection Secret"))?.map(lean),
            papers: Papers::read(client, names, cluster.spec.tls.as_ref()).await.map_err(failed("certificates"))?,
            certificates: None,
            no_peer_certificates: None,
            names: names.clone(),
            cluster: lean(cluster),
        };
        if let Some(tls) = &snapshot.cluster.spec.tls {
            snapshot.certificates = snapshot.papers.of_clients(names, tls);
            snapshot.no_peer_certificates = snapshot.papers.peer_trouble(names, tls);
        }
        let bound: Vec<_> = snapshot.claims.iter().filter_map(|claim| claim.spec.as_ref()?.volume_name.clone()).collect();
        for name in bound {
            let volume =
                Api::<PersistentVolume>::all(client.clone()).get_opt(&name).await.map_err(failed("persistent volumes"))?;
            snapshot.volumes.extend(volume.map(|volume| (name, lean_volume(volume))));
        }
        snapshot.unbound = unbound(client, &snapshot.claims).await;
        if !snapshot.calm() {
            match Api::<Node>::all(client.clone()).list(&ListParams::default()).await {
                Ok(nodes) => snapshot.nodes = Some(nodes.items),
                Err(error) => snapshot.no_nodes = Some(failed("nodes")(error).to_string()),
            }
        }
        Ok(Some(snapshot))
    }

    /// Every member that is wanted is there and ready: no node can be missing.
    fn calm(&self) -> bool {
        let wanted = usize::try_from(self.cluster.spec.replicas).unwrap_or_default();
        let ready = self.pods.iter().filter(|pod| pods::ready(pod)).count();
        [ready, self.claims.len(), self.members.len()] == [wanted; 3]
    }

    pub fn member(&self, name: &str) -> Option<&EtcdMember> {
        self.members.iter().find(|member| member.name_any() == name)
    }

    pub fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.name_any() == name)
    }

    pub fn claim(&self, name: &str) -> Option<&PersistentVolumeClaim> {
        self.claims.iter().find(|claim| claim.name_any() == name)
    }
}

/// Without what only server-side apply needs, which is most of many objects: they are kept until the next look.
pub(super) fn lean<K: ResourceExt>(mut object: K) -> K {
    *object.managed_fields_mut() = Vec::new();
    object
}

/// Of what a pod was asked to be, where it runs is all that is looked at: the rest is known by its digest.
fn lean_pod(mut pod: Pod) -> Pod {
    pod.spec = pod.spec.map(|spec| k8s_openapi::api::core::v1::PodSpec { node_name: spec.node_name, ..Default::default() });
    lean(pod)
}

/// Where it can be reached from, and what becomes of it without its claim.
fn lean_volume(mut volume: PersistentVolume) -> PersistentVolume {
    volume.spec = volume.spec.map(|spec| k8s_openapi::api::core::v1::PersistentVolumeSpec {
        node_affinity: spec.node_affinity,
        persistent_volume_reclaim_policy: spec.persistent_volume_reclaim_policy,
        ..Default::default()
    });
    lean(volume)
}

/// Claims wait for a StorageClass that does not exist without a word in their status. One that cannot be read is told of
/// where it matters, and keeps nobody from being healed.
async fn unbound(client: &Client, claims: &[PersistentVolumeClaim]) -> BTreeMap<String, String> {
    let classes = Api::<StorageClass>::all(client.clone());
    let mut why = BTreeMap::new();
    for claim in claims {
        let Some(spec) = claim.spec.as_ref().filter(|spec| spec.volume_name.is_none()) else {
            continue;
        };
        let reason = match spec.storage_class_name.as_deref() {
            // Only for volumes that somebody makes by hand.
            Some("") => None,
            Some(class) => match classes.get_opt(class).await {
                Ok(Some(_)) => None,
                Ok(None) => Some(format!(
                    "StorageClass {class}, which spec.storage.storageClassName names, does not exist: create it, or create \
                     another cluster with one of `kubectl get storageclasses`"
                )),
                Err(error) => Some(format!("whether StorageClass {class} is there cannot be read: {error}")),
            },
            None => Some("spec.storage.storageClassName is empty and no StorageClass is the default".to_string()),
        };
        why.extend(reason.map(|reason| (claim.name_any(), reason)));
    }
    why
}
