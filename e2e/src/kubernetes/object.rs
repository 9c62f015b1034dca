//! The kinds of objects that the test writes. Each write carries a number of its own, the stamp,
//! and contents that follow from it, so that any object read can be checked for being whole and
//! for being the one that was written.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub const NAMESPACES: usize = 4;
/// Written into objects that the apiserver itself makes: none of ours has it.
const NO_STAMP: u64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ConfigMap,
    /// A custom resource.
    Widget,
    /// Small and renewed often, as nodes and leaders do.
    Lease,
    /// Written with a lease of the store, and read from it directly: the apiserver caches the
    /// other kinds, but not events.
    Event,
}

pub const KINDS: [Kind; 4] = [Kind::ConfigMap, Kind::Widget, Kind::Lease, Kind::Event];

/// What identifies an object within its kind: `namespace/name`.
pub type Key = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub revision: u64,
    pub stamp: u64,
}

pub fn namespace(number: usize) -> String {
    format!("load-{}", number % NAMESPACES)
}

/// Whether the object is one of the test's own; the apiserver keeps some for itself.
pub fn is_ours(key: &str) -> bool {
    key.starts_with("load-")
}

impl Kind {
    pub fn plural(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmaps",
            Kind::Widget => "widgets",
            Kind::Lease => "leases",
            Kind::Event => "events",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Kind::ConfigMap | Kind::Event => "/api/v1",
            Kind::Widget => "/apis/e2e.example.com/v1",
            Kind::Lease => "/apis/coordination.k8s.io/v1",
        }
    }

    pub fn collection(self, namespace: Option<&str>) -> String {
        match namespace {
            None => format!("{}/{}", self.group(), self.plural()),
            Some(namespace) => format!("{}/namespaces/{namespace}/{}", self.group(), self.plural()),
        }
    }

    pub fn path(self, key: &str) -> Result<String> {
        let (namespace, name) = key.split_once('/').context("a key without a namespace")?;
        Ok(format!("{}/{name}", self.collection(Some(namespace))))
    }

    /// A whole object, as for create and update.
    pub fn body(self, key: &str, worker: usize, revision: Option<u64>, stamp: u64) -> Value {
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let mut body = self.patch(stamp);
        body["metadata"] = json!({"namespace": namespace, "name": name, "labels": {"worker": worker.to_string()}});
        if let Some(revision) = revision {
            body["metadata"]["resourceVersion"] = revision.to_string().into();
        }
        body["apiVersion"] = self.group().trim_start_matches("/apis/").trim_start_matches("/api/").into();
        body["kind"] = format!("{self:?}").into();
        if self == Kind::Event {
            body["involvedObject"] = json!({"kind": "ConfigMap", "namespace": namespace, "name": name});
        }
        body
    }

    /// Only what changes.
    pub fn patch(self, stamp: u64) -> Value {
        let contents = self.contents(stamp);
        match self {
            Kind::ConfigMap => json!({"data": {"contents": contents}}),
            Kind::Widget => json!({"spec": {"contents": contents}}),
            Kind::Lease => json!({"spec": {"holderIdentity": contents, "leaseDurationSeconds": 15}}),
            Kind::Event => json!({"message": contents}),
        }
    }

    fn contents(self, stamp: u64) -> String {
        let length = match self {
            Kind::ConfigMap => 1024 + (stamp % 1024) as usize,
            Kind::Widget => 512,
            Kind::Lease => 32,
            Kind::Event => 200,
        };
        let mut text = format!("{stamp}:");
        let mut state = stamp;
        while text.len() < length {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push_str(&format!("{state:016x}"));
        }
        text
    }

    /// Key and version of an object that was read; it must be whole.
    pub fn read(self, object: &Value) -> Result<(Key, Version)> {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().with_context(|| format!("no metadata.{field} in {object}"));
        let key = format!("{}/{}", text("namespace")?, text("name")?);
        let revision = text("resourceVersion")?.parse().context("resourceVersion")?;
        if !is_ours(&key) {
            return Ok((key, Version { revision, stamp: NO_STAMP }));
        }
        let contents = match self {
            Kind::ConfigMap => &object["data"]["contents"],
            Kind::Widget => &object["spec"]["contents"],
            Kind::Lease => &object["spec"]["holderIdentity"],
            Kind::Event => &object["message"],
        };
        let contents = contents.as_str().with_context(|| format!("{self:?} {key} without contents"))?;
        let stamp = contents.split(':').next().and_then(|stamp| stamp.parse().ok()).context("contents without a stamp")?;
        if contents != self.contents(stamp) {
            bail!("{self:?} {key}: contents of no write: {contents}");
        }
        Ok((key, Version { revision, stamp }))
    }
}

/// The definition of [`Kind::Widget`].
pub fn widget_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.e2e.example.com"},
        "spec": {
            "group": "e2e.example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {"spec": {"type": "object", "properties": {"contents": {"type": "string"}}}},
                }},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_reads_as_what_was_written_and_not_when_it_was_changed() -> Result<()> {
        for kind in KINDS {
            let mut object = kind.body("load-1/a", 3, Some(5), 77);
            assert_eq!(kind.read(&object)?, ("load-1/a".to_string(), Version { revision: 5, stamp: 77 }));
            let other = kind.patch(78);
            for (field, value) in other.as_object().context("an object")? {
                object[field] = value.clone();
            }
            assert_eq!(kind.read(&object)?.1.stamp, 78);
        }
        let mut damaged = Kind::ConfigMap.body("load-1/a", 3, Some(5), 77);
        damaged["data"]["contents"] = "77:0000".into();
        assert!(Kind::ConfigMap.read(&damaged).is_err());
        Ok(())
    }
}
