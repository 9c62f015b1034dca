//! The members' own word, over etcd's gRPC API: what each says of itself, what a quorum says of the membership, and the
//! changes a quorum can be asked for.
//!
//! *Invariant*: no answer within the limit is silence, never "no". Every call has a limit.

mod answers;
mod client;
mod tls;

pub use answers::{Answers, ask};
pub use client::{Member, StoreError};
pub use tls::Certificates;

use crate::plan::Exit;

/// What the store's exit codes say; all others leave hope in a restart.
pub fn exit(code: i32) -> Option<Exit> {
    match code {
        65 => Some(Exit::Corrupt),
        66 => Some(Exit::DataGone),
        67 => Some(Exit::Removed),
        _ => None,
    }
}
