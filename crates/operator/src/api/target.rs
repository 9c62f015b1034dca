//! The latched target: the part of a spec that members are made from, copied into the status when it is taken over.
//!
//! Members are made from this copy and not from the spec, so that an edit in the middle of an operation changes nothing
//! until its turn comes, and so that members healed meanwhile are like the others.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LocalObjectReference;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EtcdClusterSpec, Options, PodSettings, Reached, Tls};

/// What the cluster is being brought to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The generation of the spec it was taken from.
    pub generation: i64,
    pub replicas: i32,
    pub version: String,
    /// The digest of `template`.
    pub digest: String,
    /// Where the image comes from when the spec does not say: the operator's default when the cluster was created, kept from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_repository: Option<String>,
    #[schemars(schema_with = "opaque")]
    pub template: Template,
}

/// Everything a member's pod depends on. Fields that a pod does not depend on stay outside, or changing them would restart members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<LocalObjectReference>,
    pub options: Options,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_args: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    pub pod: PodSettings,
}

/// What the operator fills in where a spec leaves a choice.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub repository: String,
    pub version: String,
}

impl Target {
    /// What `spec` asks for. `pinned` is the target that the cluster has: its version and its default repository are kept by a
    /// spec that names none, so that another operator with other defaults restarts nobody.
    pub fn of(spec: &EtcdClusterSpec, generation: i64, pinned: Option<&Self>, defaults: &Defaults) -> Self {
        let version = spec.version.as_deref().or(pinned.map(|target| &*target.version)).unwrap_or(&defaults.version).to_string();
        let default_repository = pinned.and_then(|target| target.default_repository.as_deref()).unwrap_or(&defaults.repository);
        let repository = spec.image.repository.as_deref().unwrap_or(default_repository);
        let default_repository = Some(default_repository.to_string());
        let template = Template {
            image: format!("{repository}:{version}"),
            pull_policy: spec.image.pull_policy.map(|policy| policy.as_str().to_string()),
            pull_secrets: spec.image.pull_secrets.clone(),
            options: spec.options.clone(),
            extra_args: spec.extra_args.clone(),
            tls: spec.tls.as_ref().map(Tls::mounted),
            pod: spec.pod.clone(),
        };
        Self { generation, replicas: spec.replicas, version, digest: template.digest(), default_repository, template }
    }

    pub fn reached(&self) -> Reached {
        Reached { replicas: self.replicas, digest: self.digest.clone() }
    }
}

impl Template {
    /// Changes when, and only when, pods made from it would.
    pub fn digest(&self) -> String {
        // Maps are sorted and absent fields skipped, so equal templates have equal text. A template has no
        // map with keys that are not strings, the one thing that cannot be written as JSON.
        digest(&serde_json::to_string(self).unwrap_or_default())
    }
}

/// A short name for a text: 16 hexadecimal digits.
pub fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The copy repeats parts of the spec that the API server has checked already; their schema is not repeated.
fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "The part of the spec that members are made from.",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults { repository: "registry.example/keelson".into(), version: "1.0.0".into() }
    }

    #[test]
    fn new_defaults_of_the_operator_do_not_move_a_cluster_that_names_neither_version_nor_repository() {
        let spec = EtcdClusterSpec::default();
        let created = Target::of(&spec, 1, None, &defaults());
        let newer = Defaults { version: "2.0.0".into(), repository: "mirror.example/keelson".into() };
        let kept = Target::of(&spec, 1, Some(&created), &newer);
        assert_eq!(kept, created);
    }

    #[test]
    fn only_what_pods_depend_on_changes_the_digest() {
        let spec = EtcdClusterSpec::default();
        let before = Target::of(&spec, 1, None, &defaults());
        let mut edited = EtcdClusterSpec { replicas: 5, paused: true, ..spec.clone() };
        edited.pdb.enabled = false;
        edited.services.client.annotations.insert("a".into(), "b".into());
        assert_eq!(Target::of(&edited, 2, None, &defaults()).digest, before.digest);
        edited.options.snapshot_count = Some(5);
        assert_ne!(Target::of(&edited, 3, None, &defaults()).digest, before.digest);
    }
}
