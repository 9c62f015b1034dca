//! The kinds people and the operator write: what may be asked for, what is reported back.
//!
//! *Invariant*: a field that is offered has an effect. What later issues add (backup, auth, hibernation …)
//! gets its own file here and its own optional section of the spec; `v1alpha1` only ever grows.

mod cluster;
pub mod condition;
mod healing;
mod member;
mod metadata;
pub mod options;
mod pod;
mod rotation;
mod services;
mod status;
mod storage;
mod target;
mod tls;

pub use cluster::{DeletionPolicy, EtcdCluster, EtcdClusterSpec, Image};
pub use healing::Healing;
pub use member::{EtcdMember, EtcdMemberSpec, EtcdMemberStatus, Origin};
pub use metadata::{annotation, label};
pub use options::{AutoCompaction, CompactionMode, Options};
pub use pod::{AntiAffinity, PodSettings};
pub use rotation::Rotation;
pub use services::{ClientService, ConnectionSecret, DisruptionBudget, ServiceType, Services};
pub use status::{CertificateState, EtcdClusterStatus, MemberState, Operation, OperationType, Quorum, Reached, Role};
pub use storage::Storage;
pub use target::{Defaults, Target, Template, digest};
pub use tls::{Auto, CertManager, ClientTls, IssuerRef, Leaf, PeerTls, SecretRef, Side, Source, Tls};

/// The API group of all kinds.
pub const GROUP: &str = "keelson.dev";
/// Everything the operator applies is applied under this name (server-side apply's field manager).
pub const FIELD_OWNER: &str = "keelson-operator";
/// Kept on a cluster with `deletionPolicy: Delete` until its volumes are gone.
pub const FINALIZER: &str = "keelson.dev/delete-volumes";
