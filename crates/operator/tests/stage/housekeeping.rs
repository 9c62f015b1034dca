//! Volume provisioner and garbage collector, as simple as they can be.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use keelson_operator::api::{EtcdCluster, EtcdMember};
use kube::api::{Api, DeleteParams, Patch, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::NAMESPACE;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// Binds claims to volumes that are folders, and lets go of claims that no pod uses.
pub async fn provision(client: &Client, folder: &Path) -> Result<()> {
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), NAMESPACE);
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let all = claims.list(&Default::default()).await?.items;
    for claim in &all {
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
        if let Some(class) = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref())
            && Api::<StorageClass>::all(client.clone()).get_opt(class).await?.is_none()
        {
            continue;
        }
        let volume = format!("pv-{}", claim.uid().unwrap_or_default());
        let folder = folder.join(&volume);
        let node = roomiest(client, &all).await?;
        let here = json!({ "key": HOSTNAME, "operator": "In", "values": [node] });
        fs::create_dir_all(&folder)?;
        let object: PersistentVolume = serde_json::from_value(json!({
            "metadata": { "name": volume },
            "spec": {
                "capacity": { "storage": "8Gi" },
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "hostPath": { "path": folder },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [here] }] } },
            },
        }))?;
        let made = Api::all(client.clone()).create(&PostParams::default(), &object).await;
        // There already if the next step failed the last time.
        if !matches!(&made, Err(kube::Error::Api(status)) if status.code == 409) {
            made?;
        }
        claims.patch(&name, &Default::default(), &Patch::Merge(json!({ "spec": { "volumeName": volume } }))).await?;
        claims.patch_status(&name, &Default::default(), &Patch::Merge(json!({ "status": { "phase": "Bound" } }))).await?;
    }
    Ok(())
}

/// The node with the fewest volumes: each volume is a folder of one node.
async fn roomiest(client: &Client, claims: &[PersistentVolumeClaim]) -> Result<String> {
    let mut taken = Vec::new();
    for claim in claims {
        taken.extend(node_of(client, claim).await?);
    }
    let nodes = Api::<Node>::all(client.clone()).list(&Default::default()).await?.items;
    let names = nodes.iter().map(ResourceExt::name_any);
    names.min_by_key(|name| taken.iter().filter(|node| *node == name).count()).context("a node")
}

/// The node that a claim's volume is on.
pub async fn node_of(client: &Client, claim: &PersistentVolumeClaim) -> Result<Option<String>> {
    let Some(bound) = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()) else {
        return Ok(None);
    };
    let volume = Api::<PersistentVolume>::all(client.clone()).get_opt(bound).await?;
    Ok(volume.as_ref().and_then(|volume| {
        let terms = &volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?.node_selector_terms;
        terms.first()?.match_expressions.as_ref()?.first()?.values.as_ref()?.first().cloned()
    }))
}

/// What belongs to clusters that are gone, and pods of members that are gone.
pub async fn collect_garbage(client: &Client) -> Result<()> {
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
    // An owner that cannot be read is alive, too.
    let alive: Vec<_> = owners.list_metadata(&Default::default()).await?.iter().filter_map(ResourceExt::uid).collect();
    for object in objects.iter().filter(|object| object.meta().deletion_timestamp.is_none()) {
        let owners = object.owner_references();
        if !owners.is_empty() && !owners.iter().any(|owner| alive.contains(&owner.uid)) {
            api.delete(&object.name_any(), &DeleteParams::default()).await?;
        }
    }
    Ok(())
}
