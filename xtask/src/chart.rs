//! What the chart renders, asked of the real Helm.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::helm::{CHART, helm};

/// The rendered objects, with these values set.
fn render(set: &[&str]) -> Result<Vec<Value>> {
    let mut args = vec!["template", "op", CHART, "--namespace", "ops"];
    set.iter().for_each(|set| args.extend(["--set-json", set]));
    let text = helm(&args)?;
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize).collect::<Result<Vec<_>, _>>()?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn of<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// `resource:verb` of all rules in the roles of that kind.
fn rights(objects: &[Value], kind: &str) -> Vec<String> {
    let mut rights = Vec::new();
    for rule in of(objects, kind).into_iter().flat_map(|role| role["rules"].as_array().into_iter().flatten()) {
        for resource in rule["resources"].as_array().into_iter().flatten() {
            let verbs = rule["verbs"].as_array().into_iter().flatten();
            rights.extend(verbs.map(|verb| format!("{}:{}", resource.as_str().unwrap_or("?"), verb.as_str().unwrap_or("?"))));
        }
    }
    rights
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    helm(&["lint", "--strict", CHART]).unwrap();
}

#[test]
fn rights_are_few() {
    let rights = rights(&render(&[]).unwrap(), "ClusterRole");
    assert!(rights.contains(&"etcdclusters:watch".to_string()), "{rights:?}");
    for right in ["secrets:list", "secrets:watch", "nodes:patch", "persistentvolumes:delete", "etcdclusters:delete", "leases:get"]
    {
        assert!(!rights.contains(&right.to_string()), "{right}");
    }
    assert!(rights.iter().all(|right| !right.contains('*')), "{rights:?}");
}

#[test]
fn with_one_namespace_only_nodes_volumes_and_storage_classes_are_seen_beyond_it() {
    let objects = render(&[r#"watchNamespace="db""#]).unwrap();
    let beyond = rights(&objects, "ClusterRole");
    let known = ["nodes:", "persistentvolumes:", "storageclasses:"];
    assert!(beyond.iter().all(|right| known.iter().any(|known| right.starts_with(known))), "{beyond:?}");
    let role = of(&objects, "Role").into_iter().find(|role| role["metadata"]["namespace"] == "db").expect("a role in it");
    assert!(!role["rules"].as_array().unwrap().is_empty());
    let args = of(&objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(args.contains("--watch-namespace=db"), "{args}");
}

#[test]
fn the_operator_meets_the_restricted_pod_security_standard() {
    let objects = render(&[]).unwrap();
    let pod = &of(&objects, "Deployment")[0]["spec"]["template"]["spec"];
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    assert_eq!(container["readOnlyRootFilesystem"], true);
}

#[test]
fn definitions_are_kept_unless_told_otherwise() {
    const KEEP: &str = "helm.sh/resource-policy";
    let crds = |set: &[&str]| {
        let objects = render(set).unwrap();
        of(&objects, "CustomResourceDefinition").into_iter().cloned().collect::<Vec<_>>()
    };
    let kept = |crd: &Value| crd["metadata"]["annotations"][KEEP] == "keep";
    assert!(crds(&[]).len() == 2 && crds(&[]).iter().all(kept));
    assert!(crds(&["crds.keep=false"]).len() == 2 && !crds(&["crds.keep=false"]).iter().any(kept));
    assert!(crds(&["crds.enabled=false"]).is_empty());
}

#[test]
fn options_appear_when_asked_for() {
    let plain = render(&[]).unwrap();
    let asked = [
        ("metrics.serviceMonitor.enabled=true", "ServiceMonitor"),
        ("metrics.rules.enabled=true", "PrometheusRule"),
        ("metrics.dashboard.enabled=true", "ConfigMap"),
        ("pdb.enabled=true", "PodDisruptionBudget"),
        ("networkPolicy.enabled=true", "NetworkPolicy"),
    ];
    for (set, kind) in asked {
        assert!(of(&plain, kind).is_empty(), "{kind}");
        assert_eq!(of(&render(&[set]).unwrap(), kind).len(), 1, "{set}");
    }
    let unasked = [
        ("rbac.create=false", "ClusterRole"),
        ("serviceAccount.create=false", "ServiceAccount"),
        ("leaderElection.enabled=false", "Role"),
    ];
    for (set, kind) in unasked {
        assert!(!of(&plain, kind).is_empty(), "{kind}");
        assert!(of(&render(&[set]).unwrap(), kind).is_empty(), "{set}");
    }
    let policies = of(&plain, "ValidatingAdmissionPolicy").len();
    let fewer = render(&["admission.guardMembers=false"]).unwrap();
    assert_eq!(of(&fewer, "ValidatingAdmissionPolicy").len() + 1, policies);
}

#[test]
fn the_dashboard_shows_figures_that_there_are() {
    let objects = render(&["metrics.dashboard.enabled=true"]).unwrap();
    let map = of(&objects, "ConfigMap")[0];
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let board: Value = serde_json::from_str(map["data"]["keelson-operator.json"].as_str().unwrap()).unwrap();
    let metrics = String::from_utf8(keelson_operator::metrics::Metrics::new().unwrap().text()).unwrap();
    for panel in board["panels"].as_array().unwrap() {
        let asks = panel["targets"][0]["expr"].as_str().unwrap();
        let figures = asks.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("keelson_"));
        for figure in figures {
            // Those with labels are not there before they are counted for the first time.
            let known = ["keelson_operator_looks_total", "keelson_operator_actions_total"].contains(&figure);
            assert!(known || metrics.contains(figure), "{figure} is asked for and not served");
        }
    }
}

#[test]
fn wrong_values_are_refused() {
    for (set, about) in [
        ("replicaCount=-1", "replicaCount"),
        ("replicas=3", "replicas"),
        (r#"logging.format="xml""#, "format"),
        (r#"image.pullPolicy="Sometimes""#, "pullPolicy"),
        (r#"watchNamespace="Not A Name""#, "watchNamespace"),
        (r#"{"leaderElection":{"enabled":false},"replicaCount":2}"#, "replicaCount"),
    ] {
        let error = format!("{:#}", render(&[set]).err().unwrap_or_else(|| panic!("{set} was taken")));
        assert!(error.contains(about), "{set}: {error}");
    }
}
