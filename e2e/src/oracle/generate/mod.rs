//! Random steps from a seed: few keys, so that requests meet each other, and in every field the
//! values next to which servers tend to be wrong, invalid ones included.

mod kv;
mod lease;
mod pick;
mod txn;
mod watch;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::step::Step;

/// What kind of store a sequence builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A dozen keys and small values: every request meets others.
    Narrow,
    /// Many keys, some of them large: answers that come in chunks and fragments.
    Wide,
}

/// Where the server stands when a step is made up.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    pub revision: i64,
    pub compacted: i64,
    /// Stream and id of the watches that are open.
    pub watches: Vec<(usize, i64)>,
}

pub struct Generator {
    rng: StdRng,
    profile: Profile,
    scene: Scene,
    /// How many leases were asked for without an id so far.
    chosen_leases: i64,
}

/// Out of a thousand steps.
const WEIGHTS: &[(u32, Kind)] = &[
    (230, Kind::Range),
    (40, Kind::RangeStream),
    (240, Kind::Put),
    (60, Kind::DeleteRange),
    (200, Kind::Txn),
    (14, Kind::Compact),
    (40, Kind::LeaseGrant),
    (20, Kind::LeaseRevoke),
    (30, Kind::LeaseTimeToLive),
    (10, Kind::LeaseLeases),
    (16, Kind::LeaseKeepAlive),
    (60, Kind::WatchCreate),
    (16, Kind::WatchCancel),
    (8, Kind::WatchProgress),
    (2, Kind::WatchNothing),
    (5, Kind::CloseStream),
    (9, Kind::Settle),
];

#[derive(Clone, Copy)]
enum Kind {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseLeases,
    LeaseKeepAlive,
    WatchCreate,
    WatchCancel,
    WatchProgress,
    WatchNothing,
    CloseStream,
    Settle,
}

impl Generator {
    pub fn new(seed: u64, profile: Profile) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { rng, profile, scene: Scene::default(), chosen_leases: 0 }
    }

    pub fn next(&mut self, scene: Scene) -> Step {
        self.scene = scene;
        match self.kind() {
            Kind::Range => Step::Range(self.range()),
            Kind::RangeStream => Step::RangeStream(self.streamed_range()),
            Kind::Put => Step::Put(self.put()),
            Kind::DeleteRange => Step::DeleteRange(self.delete_range()),
            Kind::Txn => Step::Txn(self.txn()),
            Kind::Compact => Step::Compact(self.compact()),
            Kind::LeaseGrant => Step::LeaseGrant(self.lease_grant()),
            Kind::LeaseRevoke => Step::LeaseRevoke(self.lease_revoke()),
            Kind::LeaseTimeToLive => Step::LeaseTimeToLive(self.lease_time_to_live()),
            Kind::LeaseLeases => Step::LeaseLeases(Default::default()),
            Kind::LeaseKeepAlive => Step::LeaseKeepAlive(self.lease_keep_alive()),
            Kind::WatchCreate => self.watch_create(),
            Kind::WatchCancel => self.watch_cancel(),
            Kind::WatchProgress => self.watch_progress(),
            Kind::WatchNothing => self.watch_nothing(),
            Kind::CloseStream => self.close_stream(),
            Kind::Settle => Step::Settle,
        }
    }

    fn kind(&mut self) -> Kind {
        let total: u32 = WEIGHTS.iter().map(|(weight, _)| weight).sum();
        let mut dice = self.rng.random_range(0..total);
        for &(weight, kind) in WEIGHTS {
            if dice < weight {
                return kind;
            }
            dice -= weight;
        }
        Kind::Settle
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seed: u64) -> Vec<Step> {
        let mut generator = Generator::new(seed, Profile::Narrow);
        let scene = Scene { revision: 50, compacted: 9, watches: vec![(1, 4)] };
        (0..5_000).map(|_| generator.next(scene.clone())).collect()
    }

    #[test]
    fn a_seed_always_gives_the_same_steps() {
        assert_eq!(steps(3), steps(3));
        assert_ne!(steps(3), steps(4));
    }

    #[test]
    fn every_kind_of_step_is_generated() {
        let kinds: std::collections::BTreeSet<_> = steps(1).iter().map(Step::kind).collect();
        assert_eq!(kinds.len(), 14, "{kinds:?}");
    }
}
