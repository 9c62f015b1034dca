//! The members' own word, over etcd's gRPC API: what each says of itself, what a quorum says of the membership, and the
//! changes a quorum can be asked for.
//!
//! *Invariant*: no answer within the limit is silence, never "no". Every call has a limit.

mod answers;
mod client;
mod handshake;
mod tls;

pub use answers::{Answers, ask};
pub use client::{Address, Member, StoreError};
pub use handshake::{Door, shake};
pub use tls::Certificates;

use keelson_api::exit::{CORRUPT, DATA_GONE, REMOVED};

use crate::plan::Exit;

/// What the store's exit codes say; all others leave hope in a restart.
pub fn exit(code: i32) -> Option<Exit> {
    match u8::try_from(code).ok()? {
        CORRUPT => Some(Exit::Corrupt),
        DATA_GONE => Some(Exit::DataGone),
        REMOVED => Some(Exit::Removed),
        _ => None,
    }
}
