//! A client of a cluster: it goes through the endpoints until one answers, and repeats what may be repeated.

mod call;
mod config;
mod dial;
mod endpoint;
mod keep_alive;
mod page;
mod rpc;
mod session;
mod srv;
mod tls;
mod watch;

pub use call::Client;
pub use config::{Config, Login, Ways};
pub use keep_alive::KeepAlive;
pub use session::{Session, oldest, op};
pub use tls::Files;
pub use watch::{Seen, Watches};

use bytes::Bytes;

/// The end of the range of all keys that begin with `prefix`; one NUL byte is the end of all keys.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    keelson_api::prefix_end(prefix).into()
}
