//! The page with every field of the EtcdCluster, written from its schema.

use anyhow::{Context, Result};
use keelson_operator::api::EtcdCluster;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::generated::Generated;

const BEGINS: &str = "\
<!-- Written by `cargo xtask crds` from crates/operator/src/api. Change the types, not this page. -->
# EtcdCluster, field by field

What `kubectl explain etcdcluster.spec` says, on one page. Values that the API server refuses are listed below with what it
answers. Complete examples: [manifests/samples](../manifests/samples).
";
/// Types of Kubernetes itself, described there.
const ELSEWHERE: [&str; 5] = ["affinity", "resources", "securityContext", "tolerations", "topologySpread"];

pub fn page() -> Result<Generated> {
    let crd = serde_json::to_value(EtcdCluster::crd())?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut page = Page::default();
    page.rules(schema);
    let mut text = String::from(BEGINS);
    for (part, title) in [("spec", "What you ask for"), ("status", "What is reported")] {
        page.rows.clear();
        page.object(&schema["properties"][part], part).with_context(|| format!("the schema of {part}"))?;
        text += &format!("\n## {part}: {title}\n\n| Field | Type | Default | Meaning |\n|---|---|---|---|\n{}", page.rows);
    }
    text += &format!("\n## What is refused\n\n{}", page.refused);
    Ok(Generated { path: "docs/etcdcluster.md", content: text })
}

#[derive(Default)]
struct Page {
    rows: String,
    refused: String,
}

impl Page {
    fn object(&mut self, schema: &Value, path: &str) -> Result<()> {
        self.rules(schema);
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in schema["properties"].as_object().context("an object has properties")? {
            let path = format!("{path}.{name}");
            let default = match &field["default"] {
                Value::Null if required.contains(&name.as_str()) && path.starts_with("spec") => "required".to_string(),
                // Of a section: it repeats those of the fields in it.
                Value::Null | Value::Object(_) => String::new(),
                Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            self.rows += &format!("| `{path}` | {} | {default} | {} |\n", kind(field), meaning(field, name));
            if !ELSEWHERE.contains(&name.as_str()) {
                self.inner(field, &path)?;
            }
        }
        Ok(())
    }

    fn inner(&mut self, field: &Value, path: &str) -> Result<()> {
        if field["properties"].is_object() {
            self.object(field, path)
        } else if field["items"]["properties"].is_object() {
            self.object(&field["items"], &format!("{path}[]"))
        } else {
            self.rules(field);
            Ok(())
        }
    }

    fn rules(&mut self, schema: &Value) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = format!("- {}\n", rule["message"].as_str().unwrap_or_default());
            if !self.refused.contains(&message) {
                self.refused += &message;
            }
        }
    }
}

fn kind(field: &Value) -> String {
    if let Some(choices) = field["enum"].as_array() {
        let choices: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
        return choices.join(" \\| ");
    }
    match field["type"].as_str() {
        Some("array") => format!("list of {}", kind(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => "map".into(),
        Some(other) => other.into(),
        None => "any".into(),
    }
}

fn meaning(field: &Value, name: &str) -> String {
    let text = field["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.replace('|', "\\|");
    match ELSEWHERE.contains(&name) {
        true => format!("{text} As in a Pod: `kubectl explain pod.spec`.").trim_start().to_string(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_spec_says_what_it_means() {
        let crd = serde_json::to_value(EtcdCluster::crd()).unwrap();
        let page = page().unwrap().content;
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        for name in spec.as_object().unwrap().keys() {
            assert!(page.contains(&format!("| `spec.{name}` |")), "spec.{name} is not on the page");
        }
        for row in page.lines().filter(|line| line.starts_with("| `spec.")) {
            assert!(!row.ends_with("|  |"), "no meaning: {row}");
        }
        assert!(page.contains("- replicas must be at least 1"), "{page}");
    }
}
