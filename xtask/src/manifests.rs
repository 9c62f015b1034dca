//! The chart as plain files for `kubectl apply`, and the chart's own README.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::generated::Generated;
use crate::helm::{CHART, helm};

const HEADER: &str = "# Written by `cargo xtask manifests` from the chart. Change the chart, not this file.\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: keelson-system\n";
/// What only Helm means something by.
const HELM_ONLY: [&str; 3] = ["# Source: ", "helm.sh/chart: ", "app.kubernetes.io/managed-by: Helm"];

/// Everything `cargo xtask manifests` writes.
pub fn files() -> Result<Vec<Generated>> {
    let rendered =
        helm(&["template", "keelson-operator", CHART, "--namespace", "keelson-system", "--set", "crds.enabled=false"])?;
    let plain = |line: &&str| !HELM_ONLY.iter().any(|only| line.trim_start().starts_with(only));
    let objects: String = rendered.lines().filter(plain).map(|line| format!("{line}\n")).collect();
    let values = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CHART).join("values.yaml"))?;
    Ok(vec![
        Generated { path: "manifests/operator.yaml", content: format!("{HEADER}{NAMESPACE}{objects}") },
        Generated { path: "charts/keelson-operator/README.md", content: readme(&values)? },
    ])
}

fn readme(values: &str) -> Result<String> {
    let mut text = String::from(
        "<!-- Written by `cargo xtask manifests` from values.yaml. Change that file, not this one. -->\n\
         # keelson-operator\n\n\
         Runs clusters of keelson, a store that speaks the etcd v3 API, on Kubernetes.\n\n\
         ```sh\n\
         helm install keelson-operator charts/keelson-operator --namespace keelson-system --create-namespace\n\
         ```\n\n\
         The custom resource definitions are templates of the chart, so `helm upgrade` upgrades them. They, and with them all\n\
         clusters, stay when the chart is uninstalled, unless `crds.keep` is false. The data of clusters stays in any case.\n\n\
         ## Values\n\n\
         | Value | Default | Meaning |\n|---|---|---|\n",
    );
    for value in described(values)? {
        text += &format!("| `{}` | `{}` | {} |\n", value.path, value.default, value.meaning.replace('|', "\\|"));
    }
    Ok(text)
}

struct Value {
    path: String,
    default: String,
    meaning: String,
}

/// The values with a comment `# -- …` above them, which may go on in further comment lines.
fn described(yaml: &str) -> Result<Vec<Value>> {
    let (mut values, mut path, mut meaning) = (Vec::new(), Vec::<String>::new(), None::<String>);
    for line in yaml.lines() {
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 2;
        if let Some(begins) = text.strip_prefix("# -- ") {
            meaning = Some(begins.to_string());
        } else if let Some(goes_on) = text.strip_prefix("# ") {
            if let Some(meaning) = &mut meaning {
                *meaning += &format!(" {goes_on}");
            }
        } else if !text.is_empty() {
            let (key, default) = text.split_once(':').with_context(|| format!("no key in {line:?}"))?;
            path.truncate(depth);
            path.push(key.to_string());
            if let Some(meaning) = meaning.take() {
                let default = default.trim();
                let default = if default.is_empty() { "see values.yaml" } else { default };
                values.push(Value { path: path.join("."), default: default.to_string(), meaning });
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated;

    #[test]
    fn files_are_in_step_with_the_chart() {
        generated::check(&files().unwrap()).unwrap();
    }

    #[test]
    fn values_are_described_by_the_comments_above_them() {
        let values =
            described("a:\n  # -- First\n  # and second.\n  b: 1\n  c: 2\n# plain\nd:\n  # -- Third.\n  e:\n    f: 3\n").unwrap();
        let values: Vec<_> = values.iter().map(|v| (v.path.as_str(), v.default.as_str(), v.meaning.as_str())).collect();
        assert_eq!(values, [("a.b", "1", "First and second."), ("d.e", "see values.yaml", "Third.")]);
    }
}
