//! Which objects around the members are missing, out of step, or somebody else's.

use k8s_openapi::NamespaceResourceScope;
use kube::api::DynamicObject;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use super::certificates;
use super::snapshot::Snapshot;
use crate::api::{EtcdCluster, Leaf, Side, Source, annotation};
use crate::pki::Wanted;
use crate::plan::{Need, Obstacle, Surrounding};
use crate::render;

/// Objects to apply, in the order they are needed.
pub fn outdated(snapshot: &Snapshot) -> Vec<Surrounding> {
    let (cluster, names) = (&snapshot.cluster, &snapshot.names);
    let mut due = Vec::new();
    if !in_step(&render::peer_service(cluster, names), snapshot.peer_service.as_ref()) {
        due.push(Surrounding::PeerService);
    }
    if !in_step(&render::client_service(cluster, names), snapshot.client_service.as_ref()) {
        due.push(Surrounding::ClientService);
    }
    let connected = match (&snapshot.certificates, cluster.spec.connection_secret.enabled) {
        // One of that name that is somebody else's stays.
        (_, false) => snapshot.connection.as_ref().is_none_or(|secret| !belongs(cluster, secret)),
        // Its certificates are missing, which is reported; what was there stays.
        (Some(Err(_)), true) => true,
        (Some(Ok(certificates)), true) => {
            in_step(&render::connection(cluster, names, certificates.0.clone()), snapshot.connection.as_ref())
        }
        (None, true) => in_step(&render::connection(cluster, names, Default::default()), snapshot.connection.as_ref()),
    };
    if !connected {
        due.push(Surrounding::Connection);
    }
    due.extend(requests(snapshot).into_iter().map(|(leaf, _)| Surrounding::Certificate(leaf)));
    due
}

/// What cert-manager is still to be asked for.
pub fn requests(snapshot: &Snapshot) -> Vec<(Leaf, DynamicObject)> {
    let (cluster, names) = (&snapshot.cluster, &snapshot.names);
    let mut due = Vec::new();
    let Some(tls) = &cluster.spec.tls else {
        return due;
    };
    for leaf in Side::ALL.into_iter().flat_map(|side| side.leaves().iter().copied()) {
        let Some(Source::CertManager(issuer)) = tls.source(leaf.side()) else {
            continue;
        };
        let wanted = render::request(cluster, names, issuer, &Wanted::of(leaf, names, tls));
        let live = snapshot.papers.requests.get(&leaf);
        let stamp = |object: &DynamicObject| object.annotations().get(annotation::APPLIED).cloned();
        let in_step =
            live.is_some_and(|live| stamp(live) == stamp(&wanted) && contains(&live.data["spec"], &wanted.data["spec"]));
        if !in_step {
            due.push((leaf, wanted));
        }
    }
    due
}

/// Applied as it would be now, and not changed by anybody since.
fn in_step<K: Resource + Serialize>(wanted: &K, live: Option<&K>) -> bool {
    let Some(live) = live else {
        return false;
    };
    let stamp = |object: &K| object.annotations().get(annotation::APPLIED).cloned();
    let json = |object: &K| serde_json::to_value(object).unwrap_or_default();
    stamp(wanted) == stamp(live) && contains(&json(live), &json(wanted))
}

/// True if everything in `wanted` is in `live` too; the API server adds more.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| live.get(key).map_or(value.is_null(), |found| contains(found, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

/// What stands under names that this cluster needs and does not belong to it, and Secrets that cannot be used.
pub fn in_the_way(snapshot: &Snapshot) -> Vec<Obstacle> {
    let cluster = &snapshot.cluster;
    let mut found = Vec::new();
    let mut note = |to: Need, why: Option<String>| found.extend(why.map(|why| Obstacle { to, why }));
    note(Need::Object(Surrounding::PeerService), foreign(cluster, snapshot.peer_service.as_ref()));
    for why in certificates::in_the_way(snapshot) {
        note(Need::Certificates, Some(why));
    }
    for (leaf, request) in &snapshot.papers.requests {
        if !owned(cluster, request) {
            let name = request.name_any();
            let why = format!("Certificate {name} was not made for this cluster: delete it, or give this cluster another name");
            note(Need::Object(Surrounding::Certificate(*leaf)), Some(why));
        }
    }
    note(Need::Certificates, snapshot.certificates.as_ref().and_then(|certificates| certificates.as_ref().err().cloned()));
    note(Need::Certificates, snapshot.no_peer_certificates.clone());
    for member in &snapshot.members {
        note(Need::Member(member.name_any()), foreign(cluster, Some(member)));
    }
    let client = foreign(cluster, snapshot.client_service.as_ref());
    note(Need::Object(Surrounding::ClientService), client);
    let connection = foreign(cluster, snapshot.connection.as_ref()).filter(|_| cluster.spec.connection_secret.enabled);
    note(Need::Object(Surrounding::Connection), connection);
    note(Need::Nodes, snapshot.no_nodes.clone());
    note(Need::Budget, foreign(cluster, snapshot.budget.as_ref()).filter(|_| cluster.spec.pdb.enabled));
    found
}

pub(super) fn foreign<K>(cluster: &EtcdCluster, object: Option<&K>) -> Option<String>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let object = object.filter(|object| !belongs(cluster, *object))?;
    let (kind, name) = (K::kind(&()), object.name_any());
    let owner = object.owner_references().iter().find(|owner| owner.controller == Some(true));
    Some(match owner {
        Some(owner) if owner.kind == "EtcdCluster" && owner.name == cluster.name_any() => {
            format!("{kind} {name} is of an earlier EtcdCluster of this name and is still being deleted")
        }
        Some(owner) => {
            format!("{kind} {name} belongs to {} {}: delete it there, or give this cluster another name", owner.kind, owner.name)
        }
        None => format!("{kind} {name} was not made for this cluster: delete it, or give this cluster another name"),
    })
}

/// True if `cluster` is the object's controller.
pub fn belongs<K: Resource<DynamicType = ()>>(cluster: &EtcdCluster, object: &K) -> bool {
    owned(cluster, object)
}

fn owned(cluster: &EtcdCluster, object: &impl ResourceExt) -> bool {
    let uid = cluster.uid().unwrap_or_default();
    object.owner_references().iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::contains;

    #[test]
    fn additions_are_left_alone_and_changes_are_noticed() {
        let live = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 1, "nodePort": 2}]}});
        assert!(contains(&live, &json!({"spec": {"type": "ClusterIP", "ports": [{"port": 1}]}, "status": null})));
        assert!(!contains(&live, &json!({"spec": {"type": "NodePort"}})));
        assert!(!contains(&live, &json!({"spec": {"ports": [{"port": 1}, {"port": 3}]}})));
    }
}
