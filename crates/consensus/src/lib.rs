//! Consensus: the only crate that knows openraft. It turns commands into log entries, entries into
//! applied state, and says when a read is safe. Everything above talks to [`Node`].

mod alone;
mod apply;
mod blocking;
mod codec;
mod disk;
mod fit;
mod lead;
mod leases;
mod lessor;
mod log;
mod machine;
mod members;
mod network;
mod node;
mod pending;
mod propose;
mod read_index;
mod restored;
#[cfg(feature = "simulation")]
mod seeded;
mod serve;
#[cfg(all(test, feature = "simulation"))]
mod simulation;
mod snapshot;
mod transport;
mod types;
mod wire;

pub use alone::leave_others;
pub use apply::Observer;
pub use disk::{Done, LogDisk};
pub use fit::{check_reach, check_state, fit_log};
pub use lessor::{Lessor, Renewal};
pub use members::{Configuration, Progress};
pub use node::{Around, Node, NodeError, NodeOptions, Status};
pub use restored::begin_with_state;
pub use snapshot::{Checkpoint, MakeCheckpoint};
pub use transport::{Answer, MESSAGE_ROOM, PeerError, Replies, Requests, Transport};
