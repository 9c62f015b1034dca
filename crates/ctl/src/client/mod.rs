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
pub use session::{Session, created_at, oldest, op};
pub use tls::Files;
pub use watch::{Seen, Watches};

use bytes::Bytes;

/// The end of the range of all keys that begin with `prefix`; one NUL byte is the end of all keys.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(at) => {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end.into()
        }
        None => Bytes::from_static(b"\0"),
    }
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        assert_eq!(prefix_end(b"foo"), &b"fop"[..]);
        assert_eq!(prefix_end(b"a\xff"), &b"b"[..]);
        assert_eq!(prefix_end(b"\xff\xff"), &b"\0"[..]);
        assert_eq!(prefix_end(b""), &b"\0"[..]);
    }
}
