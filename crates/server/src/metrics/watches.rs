//! How long streams of watches take for what they do.

use std::time::Duration;

use prometheus::Histogram;

use super::Maker;

/// Times of a turn of a stream.
pub struct WatchLoops {
    events: Histogram,
    each_event: Histogram,
    /// Of answering a request.
    pub requests: Histogram,
    /// Of telling idle watchers how far they got.
    pub progress: Histogram,
}

impl WatchLoops {
    pub(super) fn new(m: &Maker<'_>) -> Self {
        let time = |what: &str, help: &str| {
            m.histogram(&format!("etcd_debugging_server_watch_send_loop_{what}_seconds"), help, 0.001, 14)
        };
        Self {
            events: time("watch_stream_duration", "Time of fetching and sending what is ready."),
            each_event: time("watch_stream_duration_per_event", "The same, for each event."),
            requests: time("control_stream_duration", "Time of answering a request."),
            progress: time("progress_duration", "Time of telling idle watchers of progress."),
        }
    }

    /// So many events have been sent in a turn.
    pub fn sent(&self, events: u64, took: Duration) {
        if events > 0 {
            self.events.observe(took.as_secs_f64());
            self.each_event.observe(took.as_secs_f64() / events as f64);
        }
    }
}
