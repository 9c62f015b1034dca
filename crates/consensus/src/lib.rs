//! Consensus: the only crate that knows openraft. It turns commands into log entries, entries into
//! applied state, and says when a read is safe. Everything above talks to [`Node`].

mod apply;
mod codec;
mod log;
mod machine;
mod network;
mod node;
mod propose;
mod read_index;
mod types;

pub use apply::Observer;
pub use node::{Node, NodeError, NodeOptions, Status};
