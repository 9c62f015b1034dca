//! What happened in the store, revision by revision, as a watch tells it; and the state at any of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::WatchResponse;
use keelson_api::mvccpb::event::EventType;

/// Keys that one revision changed, with their new values; `None` deletes.
pub type Changes = BTreeMap<String, Option<String>>;

/// Whole revisions, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    by_revision: BTreeMap<i64, Changes>,
}

/// A value with the revision that wrote it.
pub type Found = (String, i64);

impl Events {
    /// Takes the next response of a watch: its revisions must follow on all that were told before, and each be
    /// whole, since none comes in two responses.
    pub fn take(&mut self, response: WatchResponse) -> Result<()> {
        ensure!(!response.fragment, "a watch that did not ask for fragments got one");
        let before = self.newest();
        for event in response.events {
            let kind = event.r#type();
            let kv = event.kv.context("an event without a key")?;
            let (at, key) = (kv.mod_revision, String::from_utf8(kv.key.to_vec())?);
            ensure!(at > before, "a watch that had been told all of revision {before} is told of {key} at {at}");
            ensure!(at >= self.newest(), "a watch is told of {key} at {at} after revision {}", self.newest());
            let value = match kind {
                EventType::Put => Some(String::from_utf8(kv.value.to_vec())?),
                EventType::Delete => None,
            };
            let twice = self.by_revision.entry(at).or_default().insert(key.clone(), value);
            ensure!(twice.is_none(), "a watch is told twice of {key} at {at}");
        }
        Ok(())
    }

    pub fn newest(&self) -> i64 {
        self.by_revision.keys().next_back().copied().unwrap_or(0)
    }

    pub fn at(&self, revision: i64) -> Option<&Changes> {
        self.by_revision.get(&revision)
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &Changes)> {
        self.by_revision.iter().map(|(revision, changes)| (*revision, changes))
    }

    pub fn after(&self, revision: i64) -> impl Iterator<Item = (i64, &Changes)> {
        self.by_revision.range(revision + 1..).map(|(revision, changes)| (*revision, changes))
    }

    pub fn len(&self) -> usize {
        self.by_revision.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_revision.is_empty()
    }

    /// The part that a watch of keys with a prefix is told.
    pub fn of(&self, prefix: &str) -> Self {
        let mut part = Self::default();
        for (revision, changes) in &self.by_revision {
            let inside: Changes =
                changes.iter().filter(|(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect();
            if !inside.is_empty() {
                part.by_revision.insert(*revision, inside);
            }
        }
        part
    }

    /// What was so up to a revision.
    pub fn until(mut self, newest: i64) -> Self {
        self.by_revision.retain(|at, _| *at <= newest);
        self
    }

    /// What was so after a revision.
    pub fn since(mut self, revision: i64) -> Self {
        self.by_revision.retain(|at, _| *at > revision);
        self
    }

    /// The first revision at which two stories differ, with both.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let revisions = self.by_revision.keys().chain(other.by_revision.keys());
        let first = revisions.filter(|r| self.at(**r) != other.at(**r)).min()?;
        Some(format!("revision {first}: {:?}, not {:?}", self.at(*first), other.at(*first)))
    }
}

/// The state, moved forward through the revisions.
pub struct Timeline<'a> {
    events: &'a Events,
    now: BTreeMap<String, Found>,
    at: i64,
}

impl<'a> Timeline<'a> {
    pub fn new(events: &'a Events) -> Self {
        Self { events, now: BTreeMap::new(), at: 0 }
    }

    /// Goes on to a revision that is not before the last one asked for.
    pub fn forward(&mut self, revision: i64) -> &BTreeMap<String, Found> {
        for (at, changes) in self.events.by_revision.range((Bound::Excluded(self.at), Bound::Included(revision.max(self.at)))) {
            for (key, value) in changes {
                match value {
                    Some(value) => self.now.insert(key.clone(), (value.clone(), *at)),
                    None => self.now.remove(key),
                };
            }
        }
        self.at = self.at.max(revision);
        &self.now
    }
}

#[cfg(test)]
mod tests {
    use keelson_api::mvccpb::{Event, KeyValue};

    use super::*;

    fn response(events: &[(&'static str, i64)]) -> WatchResponse {
        let event = |(key, at): &(&'static str, i64)| Event {
            kv: Some(KeyValue { key: (*key).into(), value: format!("at {at}").into(), mod_revision: *at, ..Default::default() }),
            ..Default::default()
        };
        WatchResponse { events: events.iter().map(event).collect(), ..Default::default() }
    }

    #[test]
    fn events_out_of_order_repeated_or_torn_apart_are_refused() -> Result<()> {
        let mut events = Events::default();
        events.take(response(&[("a", 2), ("b", 2), ("a", 3)]))?;
        for (wrong, why) in [(("b", 3), "half a revision before"), (("a", 2), "repeated"), (("c", 1), "out of order")] {
            assert!(events.clone().take(response(&[wrong])).is_err(), "{why}");
        }
        assert!(events.clone().take(response(&[("a", 5), ("b", 4)])).is_err());
        assert!(events.clone().take(response(&[("a", 5), ("a", 5)])).is_err());
        events.take(response(&[("c", 4)]))?;
        assert_eq!(events.len(), 3);
        Ok(())
    }

    #[test]
    fn a_timeline_shows_each_revision_as_it_was() -> Result<()> {
        let mut events = Events::default();
        events.take(response(&[("a", 2), ("b", 3), ("a", 5)]))?;
        let mut timeline = Timeline::new(&events);
        assert!(timeline.forward(1).is_empty());
        assert_eq!(timeline.forward(4)["a"], ("at 2".into(), 2));
        assert_eq!(timeline.forward(9)["a"], ("at 5".into(), 5));
        assert_eq!(timeline.forward(9).len(), 2);
        Ok(())
    }

    #[test]
    fn a_missing_event_shows_as_a_difference() -> Result<()> {
        let (mut whole, mut part) = (Events::default(), Events::default());
        whole.take(response(&[("a", 2), ("b", 3), ("a", 5)]))?;
        part.take(response(&[("a", 2), ("a", 5)]))?;
        assert!(whole.difference(&part).context("a difference")?.starts_with("revision 3"));
        assert_eq!(whole.of("a").difference(&part), None);
        Ok(())
    }
}
