//! Nodes: which one a local volume is tied to, whether it is gone, and whether any could take another member.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Taint, Toleration};
use kube::ResourceExt;

use super::snapshot::Snapshot;
use crate::api::AntiAffinity;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// The one field that nodes are selected by.
const NAME: &str = "metadata.name";
/// How keys end by which volumes are tied to one node: `kubernetes.io/hostname`, `topology.topolvm.io/node`,
/// `openebs.io/nodename`. Others, such as those of zones, may come back with another node.
const OF_ONE_NODE: &[&str] = &["hostname", "node", "nodename", "node-name"];
/// Set by people (or their tools) on a node that will not come back: <https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/>.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What marks the only node from which a volume can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    key: String,
    value: String,
}

impl Mark {
    fn is_of(&self, node: &Node) -> bool {
        // A node that has just come back may lack a label that the driver puts there, which is mostly its name.
        let label = node.labels().get(&self.key).filter(|_| self.key != NAME);
        label.map_or(node.name_any() == self.value, |label| *label == self.value)
    }
}

/// The only node from which `volume` can be reached, if it is tied to one.
pub fn only_node(volume: &PersistentVolume) -> Option<Mark> {
    let terms = &volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?.node_selector_terms;
    let [term] = terms.as_slice() else {
        return None;
    };
    let expressions = term.match_expressions.iter().chain(&term.match_fields).flatten();
    let mut marks = expressions.filter(|expression| expression.operator == "In" && is_of_one_node(&expression.key));
    marks.find_map(|expression| match expression.values.as_deref() {
        Some([value]) => Some(Mark { key: expression.key.clone(), value: value.clone() }),
        _ => None,
    })
}

fn is_of_one_node(key: &str) -> bool {
    let last = key.rsplit('/').next().unwrap_or_default();
    key == NAME || OF_ONE_NODE.contains(&last)
}

/// True if no node is there that bears the mark, or all that do are marked as not coming back.
pub fn gone(mark: &Mark, nodes: &[Node]) -> bool {
    let out_of_service = |node: &Node| taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE);
    nodes.iter().filter(|node| mark.is_of(node)).all(out_of_service)
}

/// Why no node could run another member, as far as can be told without being the scheduler.
pub fn unschedulable(snapshot: &Snapshot) -> Option<String> {
    let nodes = snapshot.nodes.as_deref()?;
    let settings = &snapshot.cluster.spec.pod;
    let used: Vec<_> = snapshot.pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    // Members are kept apart by host name, which is not always the node's name and may be that of several.
    let host = |node: &Node| node.labels().get(HOSTNAME).cloned();
    let taken: Vec<_> = nodes.iter().filter(|node| used.contains(&node.name_any().as_str())).filter_map(host).collect();
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
        } else if settings.anti_affinity == AntiAffinity::Required && host(node).is_some_and(|host| taken.contains(&host)) {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(terms: Value) -> PersistentVolume {
        let spec = json!({ "nodeAffinity": { "required": { "nodeSelectorTerms": terms } } });
        serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap()
    }

    fn tied(key: &str, values: &[&str]) -> Value {
        json!({ "matchExpressions": [{ "key": key, "operator": "In", "values": values }] })
    }

    fn node(name: &str, labels: Value, taint: Option<&str>) -> Node {
        let taints: Vec<_> = taint.iter().map(|key| json!({ "key": key, "effect": "NoExecute" })).collect();
        let node = json!({ "metadata": { "name": name, "labels": labels }, "spec": { "taints": taints } });
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn volumes_are_tied_to_a_node_by_whatever_their_driver_calls_it() {
        for key in [HOSTNAME, "topology.topolvm.io/node", "openebs.io/nodename"] {
            let mark = only_node(&volume(json!([tied(key, &["here"])]))).expect(key);
            assert!(!gone(&mark, &[node("n1", json!({ key: "here" }), None)]), "{key}");
            assert!(!gone(&mark, &[node("here", json!({}), None)]), "{key}: its label is not there yet");
            assert!(gone(&mark, &[node("n2", json!({ key: "there" }), None)]), "{key}");
            assert!(gone(&mark, &[node("n1", json!({ key: "here" }), Some(OUT_OF_SERVICE))]), "{key}");
        }
        let field = json!([{ "matchFields": [{ "key": NAME, "operator": "In", "values": ["n1"] }] }]);
        let mark = only_node(&volume(field)).expect("a field");
        assert!(!gone(&mark, &[node("n1", json!({}), None)]) && gone(&mark, &[node("n2", json!({}), None)]));
    }

    #[test]
    fn volumes_of_zones_and_of_several_nodes_are_tied_to_none() {
        let zone = "topology.kubernetes.io/zone";
        for terms in [
            json!([tied(zone, &["a"])]),
            json!([tied(HOSTNAME, &["n1", "n2"])]),
            json!([tied(HOSTNAME, &["n1"]), tied(HOSTNAME, &["n2"])]),
        ] {
            assert_eq!(only_node(&volume(terms.clone())), None, "{terms}");
        }
    }
}
