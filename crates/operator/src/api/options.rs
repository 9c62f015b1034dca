//! Settings of the store itself, and the flags that may be passed besides.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Settings of the store itself; each becomes one flag of every member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.electionTimeoutMilliseconds) ? self.electionTimeoutMilliseconds : 1000) >= 5 * (has(self.heartbeatIntervalMilliseconds) ? self.heartbeatIntervalMilliseconds : 100)")
        .message("options.electionTimeoutMilliseconds (1000 unless set) must be at least five times heartbeatIntervalMilliseconds (100 unless set), or members elect leaders for no reason"),
)]
pub struct Options {
    /// How many bytes the store may hold before it refuses writes; the store's own default without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("options.quotaBackendBytes must be at least 1, such as 8589934592 for 8 GiB; without it the store has its own default"))]
    pub quota_backend_bytes: Option<i64>,
    /// Lets the store drop old revisions by itself. Leave it out below a kube-apiserver, which does that on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_compaction: Option<AutoCompaction>,
    /// How many entries are applied between two snapshots of a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("options.snapshotCount must be at least 1, such as 10000"))]
    pub snapshot_count: Option<i64>,
    /// How often a leader tells the others that it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 10 && self <= 10000").message("options.heartbeatIntervalMilliseconds must be from 10 to 10000, such as 100"))]
    pub heartbeat_interval_milliseconds: Option<i32>,
    /// How long members wait without hearing a leader before they elect another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 50 && self <= 50000").message("options.electionTimeoutMilliseconds must be from 50 to 50000, such as 1000"))]
    pub election_timeout_milliseconds: Option<i32>,
}

/// How the store drops old revisions by itself.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode == 'Revision' ? self.retention.matches('^[1-9][0-9]*$') : self.retention.matches('^[0-9]+(h|m|s)$')")
        .message("autoCompaction.retention must be a number of revisions such as 1000 with mode Revision, or a time such as 1h with mode Periodic"),
)]
pub struct AutoCompaction {
    /// Whether `retention` is a time or a number of revisions.
    pub mode: CompactionMode,
    /// A number of revisions with mode Revision; a time such as `1h` or `30m` with mode Periodic.
    pub retention: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CompactionMode {
    Periodic,
    Revision,
}

impl Options {
    /// The flags these settings become, in a stable order.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = Vec::new();
        let mut put = |name, value: Option<String>| flags.extend(value.map(|value| (name, value)));
        put("quota-backend-bytes", self.quota_backend_bytes.map(|bytes| bytes.to_string()));
        let mode = |compaction: &AutoCompaction| match compaction.mode {
            CompactionMode::Periodic => "periodic".to_string(),
            CompactionMode::Revision => "revision".to_string(),
        };
        put("auto-compaction-mode", self.auto_compaction.as_ref().map(mode));
        put("auto-compaction-retention", self.auto_compaction.as_ref().map(|c| c.retention.clone()));
        put("snapshot-count", self.snapshot_count.map(|count| count.to_string()));
        put("heartbeat-interval", self.heartbeat_interval_milliseconds.map(|ms| ms.to_string()));
        put("election-timeout", self.election_timeout_milliseconds.map(|ms| ms.to_string()));
        flags
    }
}

/// What the operator sets itself, directly or by a field of the spec; also every flag with one of the prefixes.
const OWN_FLAGS: &[&str] = &[
    "name",
    "data-dir",
    "wal-dir",
    "config-file",
    "force-new-cluster",
    "auto-tls",
    "peer-auto-tls",
    "client-cert-auth",
    "cert-file",
    "key-file",
    "trusted-ca-file",
    "quota-backend-bytes",
    "snapshot-count",
    "heartbeat-interval",
    "election-timeout",
];
const OWN_PREFIXES: &[&str] = &[
    "initial-",
    "listen-",
    "advertise-",
    "peer-cert",
    "peer-key",
    "peer-client",
    "peer-trusted",
    "peer-skip",
    "discovery",
    "auto-compaction",
];

/// What takes away what the operator relies on: that a change of members which risks the quorum is refused, that a learner
/// votes once the operator has made room for it, that an acknowledged write is on the disk.
const DANGEROUS_FLAGS: &[&str] = &["strict-reconfig-check", "auto-promote-learners"];
const DANGEROUS_PREFIX: &str = "unsafe-";

/// The schema of `extraArgs`, with the deny list as a rule of the API server.
pub(super) fn extra_args_rule(generator: &mut SchemaGenerator) -> Schema {
    let description = "More command-line flags, by name without dashes: `log-level: debug`. Flags that the operator sets itself, and those that \
         put data at risk, are refused.";
    let list = |flags: &[&str]| flags.iter().map(|flag| format!("'{flag}'")).collect::<Vec<_>>().join(", ");
    let (names, dangerous) = (list(OWN_FLAGS), list(DANGEROUS_FLAGS));
    let prefixes = OWN_PREFIXES.iter().map(|prefix| format!("k.startsWith('{prefix}')")).collect::<Vec<_>>().join(" || ");
    json_schema!({
        "type": "object",
        "description": description,
        "additionalProperties": generator.subschema_for::<String>(),
        "maxProperties": 64,
        "x-kubernetes-validations": [
            {
                "rule": "self.all(k, k.matches('^[a-z][a-z0-9-]*$'))",
                "message": "extraArgs are written by name without dashes in front, such as log-level: debug",
            },
            {
                "rule": format!("self.all(k, !(k in [{names}]) && !({prefixes}))"),
                "message": "extraArgs has a flag that the operator sets itself: use the field of the spec (options, tls, storage) that stands for it, or leave it out",
            },
            {
                "rule": format!("self.all(k, !(k in [{dangerous}]) && !k.startsWith('{DANGEROUS_PREFIX}'))"),
                "message": "extraArgs has a flag that puts data at risk (strict-reconfig-check, auto-promote-learners, unsafe-*): leave it out",
            },
        ],
    })
}

/// True for flags that nobody may pass; what the API server refuses, refused again when flags are composed.
pub fn is_refused(name: &str) -> bool {
    let own = OWN_FLAGS.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    own || DANGEROUS_FLAGS.contains(&name) || name.starts_with(DANGEROUS_PREFIX)
}

/// The flags of `extraArgs` that may be passed on.
pub fn allowed(extra_args: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    extra_args.iter().filter(|(name, _)| !is_refused(name))
}
