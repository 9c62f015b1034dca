//! Takes changes from a watch of all keys to the store, a segment at a time. While one is on its way the watch is closed: so
//! nothing piles up here when the store is slow. The next watch begins with the last transactions that are in the store,
//! and those must come again as they were.

use bytes::Bytes;
use jiff::Timestamp;
use keelson_api::etcdserverpb::{LeaseTimeToLiveRequest, WatchCreateRequest};
use keelson_snapshot::backup::Lease;
use tokio::time::{Instant, sleep, sleep_until};

use super::{LONGEST_PAUSE, Log, Runner, Stop};
use crate::client::Watches;
use crate::command::backup::{failed, is_compacted};

/// Two looks at the cluster that found the watch behind it: it has got stuck.
const BEHIND: u32 = 2;

impl Runner {
    /// Goes on with a log: to `end`, if there is one, or else for as long as it can.
    pub(super) async fn follow(&self, log: &mut Log, end: Option<i64>) -> Stop {
        let mut term = 0;
        loop {
            if let Err(stop) = self.segment(log, end, &mut term).await {
                log.recorder.restart();
                return stop;
            }
            if end.is_some_and(|end| log.recorder.revision() >= end) {
                return Stop::Reached;
            }
            if end.is_none() && self.is_wanted(&log.manifest).await {
                return Stop::Due;
            }
        }
    }

    /// One segment, or nothing if nothing happens for a while.
    async fn segment(&self, log: &mut Log, end: Option<i64>, term: &mut u64) -> Result<(), Stop> {
        self.collect(log, end, term).await?;
        let mut leases = Vec::new();
        for id in log.recorder.lease_ids() {
            let told = self.client.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: false }).await?;
            // One that is gone has no time to live, and what hangs on it is going, too.
            leases.extend((told.granted_ttl > 0).then_some(Lease { id, ttl: told.granted_ttl }));
        }
        let Some((name, bytes)) = log.recorder.segment(leases) else {
            log.recorder.restart();
            return Ok(());
        };
        let bytes = Bytes::from(bytes);
        let mut pause = self.every;
        // The library has repeated it by itself for some minutes by now.
        while let Err(e) = self.store.append(&log.manifest.id, &name, bytes.clone()).await {
            eprintln!("the log waits for the store: {}", failed(e).text());
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        log.recorder.stored();
        let time = Timestamp::from_millisecond(name.time).unwrap_or(log.manifest.time);
        log.guard.mark(&self.store, name.last, time).await
    }

    /// Collects changes until there are enough for a segment, or until it is time for one.
    async fn collect(&self, log: &mut Log, end: Option<i64>, term: &mut u64) -> Result<(), Stop> {
        let everything = Bytes::from_static(b"\0");
        let mut watches = Watches::new(&self.client, true);
        watches.add(WatchCreateRequest {
            key: everything.clone(),
            range_end: everything,
            start_revision: log.recorder.watch_from(),
            ..WatchCreateRequest::default()
        });
        let mut due = Instant::now() + self.every;
        let mut behind = 0;
        loop {
            tokio::select! {
                answer = watches.answer() => {
                    let answer = match answer {
                        Ok(answer) => answer,
                        // What has come goes to the store first; and less may be enough to know the cluster by.
                        Err(e) if is_compacted(&e) && (log.recorder.bytes() > 0 || log.recorder.loosen()) => return Ok(()),
                        Err(e) if is_compacted(&e) => {
                            return Err(Stop::Over("what comes next in the log has been compacted".into()));
                        }
                        Err(e) => return Err(e.into()),
                    };
                    let (time, back) = log.clock.tell(Timestamp::now());
                    if let Some(ms) = back.filter(|_| !answer.events.is_empty()) {
                        eprintln!("the clock is {} s behind the last time in the log: until then all has that time", ms / 1000);
                    }
                    log.recorder.add(answer.events, time).map_err(|wrong| Stop::Over(wrong.to_string()))?;
                }
                () = sleep_until(due) => {
                    if log.recorder.bytes() > 0 {
                        return Ok(());
                    }
                    if self.look(log, term).await? {
                        behind = 0;
                    } else {
                        behind += 1;
                    }
                    if behind >= BEHIND || (end.is_none() && self.is_wanted(&log.manifest).await) {
                        return Ok(());
                    }
                    due = Instant::now() + self.every;
                }
            }
            let has_all = end.is_some_and(|end| log.recorder.revision() >= end);
            if log.recorder.bytes() >= self.segment_bytes || has_all {
                return Ok(());
            }
        }
    }

    /// Looks at the cluster while nothing comes: whether there is nothing, and whether it is still the same. False if the watch
    /// has not told all.
    async fn look(&self, log: &mut Log, term: &mut u64) -> Result<bool, Stop> {
        let (time, _) = log.clock.tell(Timestamp::now());
        let header = self.client.get(&Bytes::from_static(b"\0")).await?.header.unwrap_or_default();
        let reached = log.recorder.revision();
        let is_same = format!("{:x}", header.cluster_id) == log.manifest.cluster_id;
        if !is_same || header.revision < reached || header.raft_term < *term {
            let now = header.revision;
            return Err(Stop::Over(format!("the cluster is at revision {now}, and was at {reached}: it has been set back")));
        }
        *term = header.raft_term;
        if header.revision > reached || !log.recorder.is_anchored() {
            return Ok(false);
        }
        let time = Timestamp::from_millisecond(time).unwrap_or(log.manifest.time);
        log.guard.mark(&self.store, reached, time).await?;
        Ok(true)
    }
}
