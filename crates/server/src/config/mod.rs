//! Configuration as etcd users know it: flags, `ETCD_*` variables, or a file.

mod cluster;
mod compaction;
mod discovery;
mod file;
mod flags;
#[cfg(test)]
mod fuzz;
mod gates;
mod logs;
mod parse;
mod security;
mod settings;
mod sources;
mod tokens;
mod traces;
mod urls;
mod web;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use cluster::parse_cluster;
pub use compaction::AutoCompaction;
pub use discovery::{Discovery, Registry};
pub use flags::{name_and_value, parse_bool, parse_duration};
pub use gates::Gates;
pub use logs::{JOURNAL, Rotation};
pub use security::{Named, Pair, Security};
pub use sources::{Outcome, from_command_line};
pub use tokens::{JwtOptions, TokenKind};
pub use traces::{MILLION, Traces};
pub use urls::{Address, ListenUrl};
pub use web::{Allowed, Web};

/// A checked configuration.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    /// Where the log is, if not there.
    pub wal_dir: Option<PathBuf>,
    pub listen_client: Vec<ListenUrl>,
    /// Where plain HTTP is served, if not with the calls.
    pub listen_client_http: Vec<ListenUrl>,
    pub listen_peer: Vec<ListenUrl>,
    pub listen_metrics: Vec<ListenUrl>,
    pub advertise_client: Vec<String>,
    pub advertise_peer: Vec<String>,
    /// Peer URLs of the members of a new cluster, or of the one to be joined, by name.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    /// How they are found if the flags do not name them; then there is only this one above, until they are.
    pub discovery: Discovery,
    pub strict_reconfig: bool,
    pub max_learners: u32,
    /// A leader makes voters of learners that have caught up.
    pub promotes_learners: bool,
    /// A leader whose log waits for the disk for longer hands over; zero for never.
    pub disk_stall_limit: Duration,
    pub cluster_token: String,
    /// The other members are gone for good: go on alone.
    pub forces_new_cluster: bool,
    pub heartbeat_ms: u64,
    pub election_ms: u64,
    pub entries_to_keep: u64,
    /// Bytes; `None` means no limit.
    pub quota: Option<u64>,
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    pub max_concurrent_streams: u32,
    pub auto_compaction: AutoCompaction,
    pub progress_interval: Duration,
    pub removal_step: usize,
    pub removal_pause: Duration,
    pub extensive_metrics: bool,
    pub log_outputs: Vec<String>,
    /// When the file among them is put aside; none for never.
    pub log_rotation: Option<Rotation>,
    pub log_level: String,
    pub log_json: bool,
    pub slow_call: Duration,
    pub slow_apply: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub sync_log: bool,
    pub gates: Gates,
    /// How often a leader compares the data of all members; zero for never.
    pub corrupt_check_interval: Duration,
    /// How often it compares checksums of past compactions.
    pub compact_hash_interval: Duration,
    pub reuse_port: bool,
    pub web: Web,
    pub client_security: Security,
    pub peer_security: Security,
    /// Where calls are told of, if anywhere.
    pub traces: Option<Traces>,
    /// What users are given for their passwords.
    pub tokens: TokenKind,
    pub simple_token_ttl: Duration,
    pub bcrypt_cost: u32,
    /// What other members' certificates must be for, if not for the names in their URLs.
    pub peer_server_name: Option<String>,
    /// Only a data directory that was used before may be started with.
    pub joins_existing: bool,
    /// Things the user should know that are not errors.
    pub warnings: Vec<String>,
}

/// Settings of plain HTTP, for tests.
#[cfg(test)]
pub fn web(cors: &str, host_whitelist: &str) -> Web {
    web::read(true, cors, host_whitelist).unwrap()
}
