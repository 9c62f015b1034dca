//! What the workers did to their objects and the apiserver acknowledged, to compare with what the
//! watchers saw.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::kubernetes::apiserver::EVENT_TTL;
use crate::kubernetes::history::{Change, History};
use crate::kubernetes::object::{Key, Kind, Version, is_ours};

#[derive(Clone, Copy, Debug)]
struct Write {
    /// `None` for a deletion.
    version: Option<Version>,
    began: Instant,
}

#[derive(Debug, Default)]
pub struct Ledger {
    writes: BTreeMap<(Kind, Key), Vec<Write>>,
}

impl Ledger {
    pub fn write(&mut self, kind: Kind, key: &str, version: Option<Version>, began: Instant) {
        self.writes.entry((kind, key.to_string())).or_default().push(Write { version, began });
    }

    /// Adds another worker's; no object belongs to two.
    pub fn merge(&mut self, other: Ledger) {
        self.writes.extend(other.writes);
    }

    /// How many changes a watch of the kind has to show. Events expire, each one once.
    pub fn changes(&self, kind: Kind) -> usize {
        let expiry = usize::from(kind == Kind::Event);
        self.of(kind).map(|(_, writes)| writes.len() + expiry).sum()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Vec<Write>)> {
        self.writes.iter().filter(move |((of, _), _)| *of == kind).map(|((_, key), writes)| (key, writes))
    }

    /// Objects whose changes are not the acknowledged writes in their order, one line each.
    pub fn differences(&self, kind: Kind, history: &History) -> Vec<String> {
        let missed = self.of(kind).filter_map(|(key, writes)| {
            let changes = history.changes_of(key);
            let right = if kind == Kind::Event { same_until_expiry(writes, changes) } else { same(writes, changes) };
            (!right).then(|| format!("{key}: written {}, seen {}", written(writes), seen(changes)))
        });
        let invented = history.changes().filter_map(|(key, changes)| {
            let known = !is_ours(key) || self.writes.contains_key(&(kind, key.clone()));
            (!known).then(|| format!("{key}: never acknowledged, seen {}", seen(changes)))
        });
        missed.chain(invented).collect()
    }
}

fn written(writes: &[Write]) -> String {
    let write = |write: &Write| match write.version {
        Some(version) => format!("{} with {}", version.revision, version.stamp),
        None => "deleted".to_string(),
    };
    writes.iter().map(write).collect::<Vec<_>>().join(", ")
}

fn seen(changes: &[Change]) -> String {
    let change = |change: &Change| match change.version {
        Some(version) => format!("{} with {}", change.revision, version.stamp),
        None => format!("{} deleted", change.revision),
    };
    changes.iter().map(change).collect::<Vec<_>>().join(", ")
}

fn same(writes: &[Write], changes: &[Change]) -> bool {
    writes.len() == changes.len() && writes.iter().zip(changes).all(|(write, change)| write.version == change.version)
}

/// The last change is the expiry, which may be late, but never early.
fn same_until_expiry(writes: &[Write], changes: &[Change]) -> bool {
    let (Some(last), Some((expiry, changes))) = (writes.last(), changes.split_last()) else {
        return false;
    };
    same(writes, changes) && expiry.version.is_none() && expiry.seen >= last.began + EVENT_TTL
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    const FIRST: Version = Version { revision: 2, stamp: 1 };
    const SECOND: Version = Version { revision: 3, stamp: 2 };

    #[test]
    fn a_watch_must_show_the_writes_and_nothing_else() -> Result<()> {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        ledger.write(Kind::Lease, "load-0/a", Some(FIRST), now);
        ledger.write(Kind::Lease, "load-0/a", Some(SECOND), now);
        let mut history = History::default();
        history.event("ADDED", "load-0/a".into(), FIRST)?;
        assert_eq!(ledger.differences(Kind::Lease, &history).len(), 1, "one write is missing");
        history.event("MODIFIED", "load-0/a".into(), SECOND)?;
        assert!(ledger.differences(Kind::Lease, &history).is_empty());
        history.event("ADDED", "load-0/b".into(), Version { revision: 4, stamp: 3 })?;
        assert_eq!(ledger.differences(Kind::Lease, &history).len(), 1, "a change that nobody made");
        Ok(())
    }

    #[test]
    fn an_event_must_expire_and_not_early() -> Result<()> {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        ledger.write(Kind::Event, "load-0/a", Some(FIRST), now);
        let mut history = History::default();
        history.event("ADDED", "load-0/a".into(), FIRST)?;
        assert_eq!(ledger.differences(Kind::Event, &history).len(), 1, "still there");
        history.event("DELETED", "load-0/a".into(), SECOND)?;
        assert_eq!(ledger.differences(Kind::Event, &history).len(), 1, "gone too early");
        let mut ledger = Ledger::default();
        if let Some(earlier) = now.checked_sub(EVENT_TTL) {
            ledger.write(Kind::Event, "load-0/a", Some(FIRST), earlier);
            assert!(ledger.differences(Kind::Event, &history).is_empty());
        }
        Ok(())
    }
}
