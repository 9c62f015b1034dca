//! Members among themselves: addresses, connections, what they ask of each other and who may ask.

mod accept;
mod book;
mod dial;
mod link;
mod metadata;
mod probe;
mod receive;
mod refusals;
mod send;
mod serve;
mod transport;

pub use accept::accept;
pub use book::Book;
pub use dial::Dialer;
pub use metadata::{CLUSTER_FORMAT, Speaker, cluster_format};
pub use probe::probe;
pub use serve::serve;
pub use transport::PeerTransport;
