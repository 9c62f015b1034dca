//! Requests by the version that clients say they have.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

use super::Maker;

/// Versions that are counted apart. What clients say is theirs to choose, and must not fill the memory.
const VERSIONS: usize = 64;
/// All that come after those.
const OTHERS: &str = "other";

/// A version, and counters of its unary calls and its streams.
struct Version {
    name: Box<str>,
    unary: IntCounter,
    streams: IntCounter,
}

/// Counters of requests.
pub struct Clients {
    all: IntCounterVec,
    /// In the order in which they came. There are few, so that a list is found through faster than a map, and without a lock.
    known: [OnceLock<Version>; VERSIONS],
    others: OnceLock<Version>,
}

impl Clients {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        let labels = ["type", "client_api_version"];
        let all = m.counters("etcd_server_client_requests_total", "Requests, by the clients' version.", &labels);
        Self { all, known: std::array::from_fn(|_| OnceLock::new()), others: OnceLock::new() }
    }

    /// A request has come from a client of this version.
    pub fn asked(&self, is_unary: bool, version: &str) {
        let found = self.known.iter().map(|place| place.get_or_init(|| self.make(version))).find(|v| *v.name == *version);
        let found = found.unwrap_or_else(|| self.others.get_or_init(|| self.make(OTHERS)));
        let counter = if is_unary { &found.unary } else { &found.streams };
        counter.inc();
    }

    fn make(&self, version: &str) -> Version {
        let of = |kind| self.all.with_label_values(&[kind, version]);
        Version { name: version.into(), unary: of("unary"), streams: of("stream") }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn clients_cannot_make_more_counters_than_there_is_room_for() {
        let clients = Clients::new(&Maker(&Registry::new()));
        (0..10 * VERSIONS).for_each(|number| clients.asked(true, &format!("3.{number}")));
        clients.asked(false, "3.0");
        let count = |kind, version| clients.all.with_label_values(&[kind, version]).get();
        assert_eq!((count("unary", "3.0"), count("stream", "3.0")), (1, 1));
        assert_eq!(count("unary", OTHERS), 9 * VERSIONS as u64);
        assert_eq!(clients.known.iter().filter(|place| place.get().is_some()).count(), VERSIONS);
    }
}
