//! Every change of one kind of object as a watch told it, which gives the state at any revision.
//! Events that do not follow from the ones before are errors at once.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::kubernetes::object::{Key, Version, is_ours};

#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub revision: u64,
    /// `None` when the object was deleted.
    pub version: Option<Version>,
    pub seen: Instant,
}

/// A list that was read: all objects, or those of a namespace, at one revision.
#[derive(Debug)]
pub struct Snapshot {
    /// How it was read, for messages.
    pub request: String,
    pub namespace: Option<String>,
    pub revision: u64,
    pub items: BTreeMap<Key, Version>,
}

#[derive(Debug, Default)]
pub struct History {
    changes: BTreeMap<Key, Vec<Change>>,
    revision: u64,
    complete: bool,
    ours: usize,
}

impl History {
    /// An object that was there when the watch began. These come in no order.
    pub fn initial(&mut self, key: Key, version: Version) -> Result<()> {
        let change = Change { revision: version.revision, version: Some(version), seen: Instant::now() };
        if self.complete || self.changes.insert(key.clone(), vec![change]).is_some() {
            bail!("{key} is not an initial object");
        }
        Ok(())
    }

    /// Everything up to `revision` has been told.
    pub fn reached(&mut self, revision: u64) -> Result<()> {
        if revision < self.revision {
            bail!("a bookmark at {revision} after {}", self.revision);
        }
        self.revision = revision;
        self.complete = true;
        Ok(())
    }

    pub fn event(&mut self, event: &str, key: Key, version: Version) -> Result<()> {
        // Objects that expire together are deleted in one revision.
        if version.revision < self.revision {
            bail!("{event} of {key} at {} after revision {}", version.revision, self.revision);
        }
        let changes = self.changes.entry(key.clone()).or_default();
        let last = changes.last();
        if last.is_some_and(|last| last.revision >= version.revision) {
            bail!("{event} of {key} at {} after {last:?}", version.revision);
        }
        let existed = last.is_some_and(|last| last.version.is_some());
        let version_now = match (event, existed) {
            ("ADDED", false) | ("MODIFIED", true) => Some(version),
            ("DELETED", true) => None,
            _ => bail!("{event} of {key} at {} after {last:?}", version.revision),
        };
        changes.push(Change { revision: version.revision, version: version_now, seen: Instant::now() });
        self.revision = version.revision;
        self.ours += usize::from(is_ours(&key));
        Ok(())
    }

    /// The revision up to which everything is known.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the initial objects are all there.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// How many changes there were to the test's own objects.
    pub fn ours(&self) -> usize {
        self.ours
    }

    pub fn changes(&self) -> impl Iterator<Item = (&Key, &[Change])> {
        self.changes.iter().map(|(key, changes)| (key, changes.as_slice()))
    }

    pub fn changes_of(&self, key: &str) -> &[Change] {
        self.changes.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// What was not as the list has it at its revision, one line each.
    pub fn differences(&self, list: &Snapshot) -> Vec<String> {
        let prefix = list.namespace.as_ref().map(|namespace| format!("{namespace}/"));
        let inside = |key: &Key| prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix));
        let mut differences = Vec::new();
        let mut tell = |key: &Key, listed, known| {
            differences.push(format!("{} at {}: {key} is {listed:?}, by events {known:?}", list.request, list.revision));
        };
        for (key, changes) in self.changes().filter(|(key, _)| inside(key)) {
            let known = changes.iter().rev().find(|change| change.revision <= list.revision).and_then(|change| change.version);
            let listed = list.items.get(key).copied();
            if listed != known {
                tell(key, listed, known);
            }
        }
        for (key, listed) in list.items.iter().filter(|(key, _)| !self.changes.contains_key(*key)) {
            tell(key, Some(*listed), None);
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(revision: u64) -> Version {
        Version { revision, stamp: revision }
    }

    fn history() -> Result<History> {
        let mut history = History::default();
        history.initial("load-0/old".into(), version(3))?;
        history.reached(5)?;
        history.event("ADDED", "load-0/a".into(), version(6))?;
        history.event("MODIFIED", "load-0/a".into(), version(7))?;
        history.event("DELETED", "load-0/old".into(), version(9))?;
        Ok(history)
    }

    #[test]
    fn events_that_do_not_follow_are_refused() -> Result<()> {
        for (event, key, revision, why) in [
            ("MODIFIED", "load-0/a", 7, "repeated"),
            ("MODIFIED", "load-0/a", 8, "reordered"),
            ("ADDED", "load-0/a", 10, "a deletion was missed"),
            ("MODIFIED", "load-0/old", 10, "an addition was missed"),
            ("DELETED", "load-0/b", 10, "an addition was missed"),
        ] {
            assert!(history()?.event(event, key.into(), version(revision)).is_err(), "{why}");
        }
        Ok(())
    }

    #[test]
    fn a_list_is_compared_with_the_state_at_its_revision() -> Result<()> {
        let history = history()?;
        let list = |revision, items: &[(&str, u64)]| Snapshot {
            request: "list".into(),
            namespace: None,
            revision,
            items: items.iter().map(|(key, revision)| (key.to_string(), version(*revision))).collect(),
        };
        assert_eq!(history.differences(&list(6, &[("load-0/a", 6), ("load-0/old", 3)])), Vec::<String>::new());
        assert_eq!(history.differences(&list(9, &[("load-0/a", 7)])), Vec::<String>::new());
        assert_eq!(history.differences(&list(8, &[("load-0/a", 6)])).len(), 2);
        assert_eq!(history.differences(&list(9, &[("load-0/a", 7), ("load-0/x", 2)])).len(), 1);
        Ok(())
    }
}
