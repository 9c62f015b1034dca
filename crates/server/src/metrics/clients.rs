//! Requests by the version that clients say they have.

use parking_lot::RwLock;
use prometheus::{IntCounter, IntCounterVec};

use super::Maker;

/// Versions that are counted apart. What clients say is theirs to choose, and must not fill the memory.
const VERSIONS: usize = 64;
/// All that come after those.
const OTHERS: &str = "other";

/// Counters of each version: unary calls and streams.
type Counters = (IntCounter, IntCounter);

/// Counters of requests.
pub struct Clients {
    all: IntCounterVec,
    /// There are few, so that a list is found through faster than a map.
    known: RwLock<Vec<(Box<str>, Counters)>>,
}

impl Clients {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        let labels = ["type", "client_api_version"];
        let all = m.counters("etcd_server_client_requests_total", "Requests, by the clients' version.", &labels);
        Self { all, known: RwLock::default() }
    }

    /// A request has come from a client of this version.
    pub fn asked(&self, is_unary: bool, version: &str) {
        let count = |(unary, stream): &Counters| {
            let counter = if is_unary { unary } else { stream };
            counter.inc();
        };
        if let Some((_, counters)) = self.known.read().iter().find(|(known, _)| **known == *version) {
            return count(counters);
        }
        let mut known = self.known.write();
        let version = if known.len() < VERSIONS { version } else { OTHERS };
        if let Some((_, counters)) = known.iter().find(|(known, _)| **known == *version) {
            return count(counters);
        }
        let of = |kind| self.all.with_label_values(&[kind, version]);
        let counters = (of("unary"), of("stream"));
        count(&counters);
        known.push((version.into(), counters));
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
        assert_eq!(clients.known.read().len(), VERSIONS + 1);
    }
}
