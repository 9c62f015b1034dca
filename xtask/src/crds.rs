//! The custom resource definitions as files: a template in the chart, plain YAML in the manifests, a page to read.

use anyhow::{Result, ensure};
use keelson_operator::api::{EtcdCluster, EtcdMember};
use kube::CustomResourceExt;

use crate::generated::Generated;
use crate::{fields, yaml};

const HEADER: &str = "# Written by `cargo xtask crds` from crates/operator/src/api. Change the types, not this file.\n";

/// Everything `cargo xtask crds` writes.
pub fn files() -> Result<Vec<Generated>> {
    let (cluster, member) = (yaml::document(&EtcdCluster::crd())?, yaml::document(&EtcdMember::crd())?);
    Ok(vec![
        template("charts/keelson-operator/templates/crds/etcdclusters.yaml", &cluster)?,
        template("charts/keelson-operator/templates/crds/etcdmembers.yaml", &member)?,
        Generated { path: "manifests/crds.yaml", content: format!("{HEADER}{cluster}---\n{member}") },
        fields::page()?,
    ])
}

/// Files under a chart's `crds/` are never upgraded by Helm, so the definitions are templates.
fn template(path: &'static str, crd: &str) -> Result<Generated> {
    const METADATA: &str = "\nmetadata:\n";
    const KEEP: &str = "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
    ensure!(crd.matches(METADATA).count() == 1 && !crd.contains("{{"), "{path}: no place for the template's own lines");
    let crd = crd.replace(METADATA, &format!("{METADATA}{KEEP}"));
    Ok(Generated { path, content: format!("{HEADER}{{{{- if .Values.crds.enabled }}}}\n{crd}{{{{- end }}}}\n") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated;

    #[test]
    fn files_are_in_step_with_the_types() {
        generated::check(&files().unwrap()).unwrap();
    }
}
