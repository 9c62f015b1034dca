//! Nodes: which one a local volume is tied to, whether it is gone, and whether any could take another member.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Taint, Toleration};
use kube::ResourceExt;

use super::snapshot::Snapshot;
use crate::api::AntiAffinity;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Set by people (or their tools) on a node that will not come back: <https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/>.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The host name of the only node from which `volume` can be reached, if it is tied to one.
pub fn only_node(volume: &PersistentVolume) -> Option<String> {
    let terms = &volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?.node_selector_terms;
    let [term] = terms.as_slice() else {
        return None;
    };
    let hosts =
        term.match_expressions.as_ref()?.iter().find(|expression| expression.key == HOSTNAME && expression.operator == "In")?;
    match hosts.values.as_deref() {
        Some([host]) => Some(host.clone()),
        _ => None,
    }
}

/// True for a node that is deleted, or marked as not coming back.
pub fn gone(host: &str, nodes: &[Node]) -> bool {
    let node = nodes.iter().find(|node| node.labels().get(HOSTNAME).map_or(node.name_any() == host, |name| name == host));
    node.is_none_or(|node| taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE))
}

/// Why no node could run another member, as far as can be told without being the scheduler.
pub fn unschedulable(snapshot: &Snapshot) -> Option<String> {
    let nodes = snapshot.nodes.as_deref()?;
    let settings = &snapshot.cluster.spec.pod;
    let taken: Vec<_> = snapshot.pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    let mut why = "there is no node".to_string();
    for node in nodes {
        let name = node.name_any();
        let refused = if !ready(node) {
            Some("is not ready")
        } else if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
            Some("is cordoned")
        } else if !settings.node_selector.iter().all(|(key, value)| node.labels().get(key) == Some(value)) {
            Some("does not match spec.pod.nodeSelector")
        } else if taints(node).iter().any(|taint| !tolerated(taint, &settings.tolerations)) {
            Some("has a taint that spec.pod.tolerations does not name")
        } else if settings.anti_affinity == AntiAffinity::Required && taken.contains(&name.as_str()) {
            Some("runs a member already, and spec.pod.antiAffinity is Required")
        } else {
            None
        };
        match refused {
            Some(refused) => why = format!("none of {} nodes takes it; {name} {refused}", nodes.len()),
            None => return None,
        }
    }
    Some(why)
}

fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    let names = |toleration: &Toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let value = toleration.operator.as_deref() == Some("Exists") || toleration.value.as_deref() == taint.value.as_deref();
        let effect = toleration.effect.as_deref().is_none_or(|effect| effect == taint.effect);
        (key.is_empty() || key == taint.key) && value && effect
    };
    taint.effect == "PreferNoSchedule" || tolerations.iter().any(names)
}

fn ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
