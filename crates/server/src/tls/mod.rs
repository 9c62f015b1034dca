//! TLS on the ports of clients and members, and in calls to members: certificates from files, which may be
//! replaced at any time, and etcd's rules of whose certificates are good.

mod auto;
mod client;
mod load;
mod names;
mod pending;
mod protocol;
mod reloaded;
mod server;
mod setup;

pub use client::Client;
pub use protocol::Protocol;
pub use server::Server;
pub use setup::Tls;
