//! Compacts without being asked, as `--auto-compaction-mode` says, at the times at which etcd does. Every member looks,
//! the leader does it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelson_api::Error;
use keelson_api::etcdserverpb::CompactionRequest;
use keelson_api::keelson::command::Action;

use crate::config::AutoCompaction;
use crate::member::Member;

/// How often there may be too many revisions.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Who keeps more time than this still compacts as often as this.
const LONGEST_PERIOD: Duration = Duration::from_secs(60 * 60);

/// Compacts by time or by number of revisions, as configured.
pub async fn run(member: Arc<Member>) {
    match member.config.auto_compaction {
        AutoCompaction::Off => {}
        AutoCompaction::Revision(keep) => by_revision(&member, keep).await,
        AutoCompaction::Periodic(keep) => by_time(&member, keep).await,
    }
}

/// True once nothing below `revision` is kept.
async fn compact(member: &Member, revision: i64) -> bool {
    if !member.status().is_leader || revision <= member.state.store.compacted().max(0) {
        return false;
    }
    match member.propose(Action::Compact(CompactionRequest { revision, physical: false })).await {
        Ok(_) => tracing::info!(revision, "completed auto compaction"),
        Err(Error::Compacted) => {}
        Err(e) => {
            tracing::warn!(revision, error = %e, "auto compaction failed; it will be tried again");
            return false;
        }
    }
    true
}

async fn by_revision(member: &Member, keep: i64) {
    let mut interval = tokio::time::interval(REVISION_INTERVAL);
    interval.tick().await;
    loop {
        interval.tick().await;
        compact(member, all_but(keep, member.state.store.revision())).await;
    }
}

async fn by_time(member: &Member, keep: Duration) {
    let mut past = Past::new(keep, Instant::now());
    let mut interval = tokio::time::interval(past.pause());
    loop {
        interval.tick().await;
        let now = Instant::now();
        if let Some(revision) = past.due(now, member.state.store.revision())
            && compact(member, revision).await
        {
            past.last = now;
        }
    }
}

/// Where to compact to so that the newest `keep` revisions stay.
const fn all_but(keep: i64, revision: i64) -> i64 {
    revision.saturating_sub(keep)
}

/// Which revision was the newest one, and when.
struct Past {
    keep: Duration,
    noted: VecDeque<(Instant, i64)>,
    /// When there was a compaction, or the beginning.
    last: Instant,
}

impl Past {
    const fn new(keep: Duration, now: Instant) -> Self {
        Self { keep, noted: VecDeque::new(), last: now }
    }

    fn period(&self) -> Duration {
        self.keep.min(LONGEST_PERIOD)
    }

    /// Ten notes are made in each period.
    fn pause(&self) -> Duration {
        (self.period() / 10).max(Duration::from_millis(1))
    }

    /// Notes the revision of now. Answers where to compact to, if that is due: to what was the newest when the time that
    /// is kept began.
    fn due(&mut self, now: Instant, revision: i64) -> Option<i64> {
        self.noted.push_back((now, revision));
        let keep = self.keep;
        let is_past = |at: Instant| now.duration_since(at) >= keep;
        while self.noted.get(1).is_some_and(|(at, _)| is_past(*at)) {
            self.noted.pop_front();
        }
        let (at, oldest) = *self.noted.front()?;
        (is_past(at) && now.duration_since(self.last) >= self.period()).then_some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes at which it compacts, each with where to, if the newest revision is the number of the minute. The attempt
    /// of minute `fails` does not go well.
    fn compactions(keep: u64, until: u64, fails: u64) -> Vec<(u64, i64)> {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let begin = Instant::now();
        let mut past = Past::new(minutes(keep), begin);
        let mut done = Vec::new();
        let mut elapsed = Duration::ZERO;
        while elapsed <= minutes(until) {
            let (now, minute) = (begin + elapsed, elapsed.as_secs() / 60);
            if let Some(revision) = past.due(now, i64::try_from(minute).unwrap())
                && minute != fails
            {
                done.push((minute, revision));
                past.last = now;
            }
            elapsed += past.pause();
        }
        done
    }

    #[test]
    fn a_short_time_is_kept_and_compacted_as_often_as_it_is_long() {
        assert_eq!(compactions(10, 35, 0), [(10, 0), (20, 10), (30, 20)]);
    }

    #[test]
    fn a_long_time_is_kept_and_compacted_every_hour() {
        assert_eq!(compactions(180, 430, 0), [(180, 0), (240, 60), (300, 120), (360, 180), (420, 240)]);
    }

    #[test]
    fn what_failed_is_tried_again_after_a_tenth_of_the_period() {
        assert_eq!(compactions(60, 130, 60), [(66, 6), (126, 66)]);
    }

    #[test]
    fn the_newest_revisions_are_kept() {
        assert_eq!(all_but(1000, 1500), 500);
        assert!(all_but(1000, 900) <= 0 && all_but(i64::MAX, 1) <= 0);
    }
}
