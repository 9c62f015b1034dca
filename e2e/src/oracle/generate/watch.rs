//! Watches: opened now, in the past, in the future and where there is nothing any more.

use bytes::Bytes;
use keelson_api::etcdserverpb::watch_request::RequestUnion;
use keelson_api::etcdserverpb::{WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest};
use rand::Rng;

use super::Generator;
use crate::oracle::settle::NEAR;
use crate::oracle::step::Step;

const STREAMS: usize = 3;
/// The stream for watches that wait for revisions far ahead. It gets none that start in the past:
/// a server says nothing of the progress of a stream while one of its watches has not begun.
const HORIZON: usize = STREAMS;
/// Every event is sent to every watch that covers it.
const MOST_WATCHES: usize = 16;

impl Generator {
    pub(super) fn watch_create(&mut self) -> Step {
        if self.scene.watches.len() >= MOST_WATCHES {
            return self.watch_cancel();
        }
        let stream = self.stream();
        let (key, range_end) = self.watch_bounds();
        let start_revision = if stream == HORIZON { self.horizon_start() } else { self.start_revision() };
        let filters = (0..self.pick(&[0, 0, 0, 0, 1, 2])).map(|_| self.pick(&[0, 0, 1, 1, 2, -1])).collect();
        let mut request = WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: self.chance(10),
            filters,
            prev_kv: self.chance(40),
            fragment: self.chance(20),
            ..Default::default()
        };
        if self.chance(35) {
            request.watch_id = self.rng.random_range(1..12);
        } else if self.chance(5) {
            request.watch_id = self.pick(&[-2, i64::MAX, i64::MIN + 1]);
        }
        watch(stream, Some(RequestUnion::CreateRequest(request)))
    }

    fn watch_bounds(&mut self) -> (Bytes, Bytes) {
        if self.chance(25) {
            return (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        }
        self.range_bounds()
    }

    fn start_revision(&mut self) -> i64 {
        let (now, compacted) = (self.scene.revision, self.scene.compacted);
        match self.rng.random_range(0..20) {
            0..=7 => 0,
            8..=12 => self.rng.random_range(compacted..=now.max(compacted)),
            13 => now,
            14 => now + 1,
            15 => now + self.rng.random_range(1..20),
            16 => compacted,
            17 => self.rng.random_range(0..=compacted.max(0)),
            18 => self.pick(&[1, 2]),
            _ => self.pick(&[-1, i64::MIN]),
        }
    }

    fn horizon_start(&mut self) -> i64 {
        let now = self.scene.revision;
        match self.rng.random_range(0..4) {
            0 => 0,
            1 => i64::MAX,
            _ => now + NEAR + self.rng.random_range(1..500),
        }
    }

    pub(super) fn watch_cancel(&mut self) -> Step {
        if self.scene.watches.is_empty() || self.chance(15) {
            let watch_id = self.pick(&[0, 1, 2, 3, 99, -1, i64::MAX]);
            let cancel = WatchCancelRequest { watch_id };
            return watch(self.stream(), Some(RequestUnion::CancelRequest(cancel)));
        }
        let (stream, watch_id) = self.scene.watches[self.rng.random_range(0..self.scene.watches.len())];
        watch(stream, Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })))
    }

    pub(super) fn watch_progress(&mut self) -> Step {
        watch(self.stream(), Some(RequestUnion::ProgressRequest(WatchProgressRequest {})))
    }

    pub(super) fn watch_nothing(&mut self) -> Step {
        watch(self.stream(), None)
    }

    /// Watches of the same stream are opened anew later, among them some that start where others had come to.
    pub(super) fn close_stream(&mut self) -> Step {
        Step::CloseStream(self.stream())
    }

    fn stream(&mut self) -> usize {
        self.pick(&[0, 0, 1, 1, 2, 2, HORIZON])
    }
}

fn watch(stream: usize, union: Option<RequestUnion>) -> Step {
    Step::Watch(stream, WatchRequest { request_union: union })
}
