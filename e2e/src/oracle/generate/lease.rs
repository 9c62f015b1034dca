//! Leases. Times to live are far apart, so that the order in which leases expire does not depend
//! on how fast a run is, and far away, so that none does; the short ones that a server must round
//! up are revoked in the step that grants them.

use keelson_api::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};
use rand::Rng;

use super::Generator;

const HOUR: i64 = 3600;
/// The longest that etcd grants.
const LONGEST_TTL: i64 = 9_000_000_000;

impl Generator {
    pub(super) fn lease_grant(&mut self) -> LeaseGrantRequest {
        let ttl = match self.rng.random_range(0..20) {
            0..=14 => HOUR * self.rng.random_range(1..10),
            15..=17 => self.pick(&[0, 1, 2, -1, i64::MIN]),
            18 => LONGEST_TTL,
            _ => self.pick(&[LONGEST_TTL + 1, i64::MAX]),
        };
        let id = if self.chance(20) { 0 } else { self.lease() };
        // One that is refused counts too: its name then stands for no lease.
        self.chosen_leases += i64::from(id == 0);
        LeaseGrantRequest { ttl, id }
    }

    pub(super) fn lease_revoke(&mut self) -> LeaseRevokeRequest {
        LeaseRevokeRequest { id: self.lease() }
    }

    pub(super) fn lease_time_to_live(&mut self) -> LeaseTimeToLiveRequest {
        LeaseTimeToLiveRequest { id: self.lease(), keys: self.chance(60) }
    }

    pub(super) fn lease_keep_alive(&mut self) -> LeaseKeepAliveRequest {
        LeaseKeepAliveRequest { id: self.lease() }
    }
}
