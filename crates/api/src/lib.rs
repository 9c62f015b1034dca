//! The wire contract: messages and services generated from `proto/`, ids with a type of their own
//! and by etcd's rules, the one table that maps errors to gRPC codes and texts, the store's exit codes,
//! and what more than one program reads from flags.

mod error;
pub mod exit;
pub mod format;
#[cfg(test)]
mod fuzz;
pub mod identity;
mod ids;
pub mod initial_cluster;
mod requests;

pub use error::{Code, Error};
pub use ids::{LeaseId, Revision};
pub use requests::{created_at, prefix_end};

/// What all messages and services look like: an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Keys, values and events.
#[allow(missing_docs, clippy::all)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}
/// Users, roles and permissions.
#[allow(missing_docs, clippy::all)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}
/// The public etcd v3 API.
#[allow(missing_docs, clippy::all)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}
/// The election service.
#[allow(missing_docs, clippy::all)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}
/// The lock service.
#[allow(missing_docs, clippy::all)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}
/// gRPC health checking.
#[allow(missing_docs, clippy::all)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
/// Keelson's own log commands and rows; never on a public port.
#[allow(missing_docs, clippy::all)]
pub mod keelson {
    include!(concat!(env!("OUT_DIR"), "/keelson.rs"));

    /// What members say to each other.
    pub mod peer {
        include!(concat!(env!("OUT_DIR"), "/keelson.peer.rs"));
    }
}
/// How collectors of OpenTelemetry are told of spans.
#[allow(missing_docs, clippy::all)]
pub mod otlp {
    include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.collector.trace.v1.rs"));
}
