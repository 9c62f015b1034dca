//! Reads, writes and compactions outside of transactions.

use keelson_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use rand::Rng;

use super::{Generator, Profile};

impl Generator {
    pub(super) fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.range_bounds();
        let mut request = RangeRequest {
            key,
            range_end,
            revision: self.read_revision(),
            serializable: self.chance(20),
            keys_only: self.chance(15),
            count_only: self.chance(8),
            ..Default::default()
        };
        if self.chance(35) {
            request.limit = self.limit();
        }
        if self.chance(35) {
            (request.sort_order, request.sort_target) = self.sort();
        }
        if self.chance(25) {
            self.filter(&mut request);
        }
        request
    }

    /// Mostly what streams support; they refuse most sorts and all filters.
    pub(super) fn streamed_range(&mut self) -> RangeRequest {
        let mut request = self.range();
        if self.chance(85) {
            (request.sort_order, request.sort_target) = (self.pick(&[0, 0, 1]), 0);
            request.min_mod_revision = 0;
            request.max_mod_revision = 0;
            request.min_create_revision = 0;
            request.max_create_revision = 0;
        }
        request
    }

    fn limit(&mut self) -> i64 {
        match self.profile {
            Profile::Narrow => self.pick(&[1, 1, 2, 2, 3, 4, 10, 11, 12, 100, -1, i64::MAX, i64::MIN]),
            Profile::Wide => self.pick(&[1, 9, 10, 11, 29, 30, 31, 59, 60, 61]),
        }
    }

    /// Order and target, either of which may be none that exists. Where many keys can tie, only
    /// the order by key is defined.
    fn sort(&mut self) -> (i32, i32) {
        let order = self.pick(&[0, 1, 1, 2, 2]);
        let target = match self.profile {
            Profile::Narrow => self.rng.random_range(0..5),
            Profile::Wide => 0,
        };
        match self.rng.random_range(0..20) {
            0 => (self.pick(&[3, -1, i32::MAX]), target),
            1 => (order, self.pick(&[5, -1, i32::MAX])),
            _ => (order, target),
        }
    }

    fn filter(&mut self, request: &mut RangeRequest) {
        for bound in [
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ] {
            if self.chance(35) {
                *bound = self.key_revision();
            }
        }
    }

    pub(super) fn put(&mut self) -> PutRequest {
        let mut request = PutRequest {
            key: self.key(),
            value: self.value(),
            lease: self.put_lease(),
            prev_kv: self.chance(30),
            ..Default::default()
        };
        if self.chance(10) {
            request.ignore_value = true;
            if self.chance(80) {
                request.value.clear();
            }
        }
        if self.chance(10) {
            request.ignore_lease = true;
            if self.chance(80) {
                request.lease = 0;
            }
        }
        request
    }

    pub(super) fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, mut range_end) = self.range_bounds();
        // Deleting everything all the time would leave nothing to look at.
        if self.chance(60) {
            range_end.clear();
        }
        DeleteRangeRequest { key, range_end, prev_kv: self.chance(40) }
    }

    pub(super) fn compact(&mut self) -> CompactionRequest {
        let (now, compacted) = (self.scene.revision, self.scene.compacted);
        let revision = match self.rng.random_range(0..10) {
            0..=5 => self.rng.random_range(compacted..=now.max(compacted)),
            6 => now,
            _ => self.any_revision(),
        };
        CompactionRequest { revision, physical: self.chance(30) }
    }
}
