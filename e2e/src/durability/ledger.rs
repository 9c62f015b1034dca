//! The truth as far as it was verified: which changes each revision made. Settling compares what a
//! restarted server replays with it and with what the clients were told since.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::{Branch, Changes, History, Outcome};

/// A key as a read must show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: u64,
    pub created: i64,
    pub modified: i64,
    pub version: i64,
}

pub type Rows = BTreeMap<Bytes, Row>;
pub type Replayed = BTreeMap<i64, Changes>;

#[derive(Debug)]
pub struct Ledger {
    /// All rows as of `base_at`; the changes after it are kept one by one.
    base: Rows,
    base_at: i64,
    changes: Replayed,
}

impl Default for Ledger {
    fn default() -> Self {
        // An empty store stands at revision 1.
        Self { base: Rows::new(), base_at: 1, changes: Replayed::new() }
    }
}

fn follow(rows: &mut Rows, revision: i64, changes: &Changes) {
    for (key, id) in changes {
        match id {
            None => {
                rows.remove(key);
            }
            Some(id) => {
                let row = rows.entry(key.clone()).or_insert(Row { id: *id, created: revision, modified: 0, version: 0 });
                row.id = *id;
                row.modified = revision;
                row.version += 1;
            }
        }
    }
}

impl Ledger {
    pub fn newest(&self) -> i64 {
        self.changes.keys().next_back().copied().unwrap_or(self.base_at)
    }

    pub fn after(&self, revision: i64) -> impl Iterator<Item = (i64, &Changes)> {
        self.changes.range(revision + 1..).map(|(revision, changes)| (*revision, changes))
    }

    /// All rows as of a revision that has not been forgotten.
    pub fn rows_at(&self, revision: i64) -> Rows {
        let mut rows = self.base.clone();
        for (at, changes) in self.changes.range(..=revision) {
            follow(&mut rows, *at, changes);
        }
        rows
    }

    /// Lets go of the single changes up to `revision`.
    pub fn forget(&mut self, revision: i64) {
        while let Some(entry) = self.changes.first_entry()
            && *entry.key() <= revision
        {
            self.base_at = *entry.key();
            let changes = entry.remove();
            follow(&mut self.base, self.base_at, &changes);
        }
    }

    /// Takes in what the server replayed: every revision after `compacted` up to `current`.
    pub fn settle(&mut self, compacted: i64, current: i64, replayed: Replayed, history: &mut History) -> Result<(), String> {
        if current < history.newest_told {
            return Err(format!("revision {} had been told, the server is back at {current}", history.newest_told));
        }
        let first = compacted.max(1) + 1;
        for revision in first..=current {
            if !replayed.contains_key(&revision) {
                return Err(format!("revision {revision} is missing between {first} and {current}"));
            }
        }
        let mut told: BTreeMap<i64, Changes> = BTreeMap::new();
        let mut unknown: Vec<Vec<Branch>> = Vec::new();
        for write in &history.writes {
            match &write.outcome {
                Outcome::Acknowledged { revision, changes } if !changes.is_empty() => {
                    told.insert(*revision, changes.clone());
                }
                Outcome::Unknown => unknown.push(write.branches.clone()),
                _ => {}
            }
        }
        let verified = self.newest();
        for (revision, changes) in replayed {
            if revision <= verified {
                let before = self.changes.get(&revision);
                if before.is_some_and(|before| *before != changes) {
                    return Err(format!("revision {revision} was {before:?} and is now {changes:?}"));
                }
                continue;
            }
            match told.remove(&revision) {
                Some(acknowledged) if acknowledged == changes => {}
                Some(acknowledged) => {
                    return Err(format!("revision {revision} was acknowledged as {acknowledged:?} and holds {changes:?}"));
                }
                None => {
                    take_matching(&mut unknown, &changes).ok_or_else(|| {
                        format!("revision {revision} holds what nobody wrote, or what was refused: {changes:?}")
                    })?;
                    history.mix.unknown_kept += 1;
                }
            }
            self.changes.insert(revision, changes);
        }
        if let Some((revision, changes)) = told.first_key_value() {
            return Err(format!("acknowledged at revision {revision} and lost: {changes:?}"));
        }
        // Decided for good, even if the server dies before the audit is over.
        history.close();
        Ok(())
    }
}

/// Of several unanswered deletes that fit, the one that could delete least leaves most room for the rest.
fn take_matching(unknown: &mut Vec<Vec<Branch>>, changes: &Changes) -> Option<()> {
    let fits = |branches: &Vec<Branch>| branches.iter().filter(|b| b.can_be(changes)).map(|b| b.deletes.len()).min();
    let (at, _) = unknown.iter().enumerate().filter_map(|(at, branches)| Some((at, fits(branches)?))).min_by_key(|(_, n)| *n)?;
    unknown.swap_remove(at);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, id: u64) -> Changes {
        Changes::from([(Bytes::from(key), Some(id))])
    }

    fn wrote(history: &mut History, key: &'static str, id: u64) -> usize {
        history.begin(vec![Branch { puts: vec![(key.into(), id)], deletes: Vec::new() }])
    }

    /// Revision 2 acknowledged, one write unanswered, one refused.
    fn history() -> History {
        let mut history = History::default();
        let first = wrote(&mut history, "a", 1);
        history.acknowledged(first, 2, put("a", 1));
        wrote(&mut history, "b", 2);
        let refused = wrote(&mut history, "c", 3);
        history.failed(refused);
        history
    }

    fn settled(current: i64, replayed: &[(i64, Changes)]) -> Result<(), String> {
        Ledger::default().settle(0, current, replayed.iter().cloned().collect(), &mut history())
    }

    #[test]
    fn an_unanswered_write_may_be_there_or_not_but_not_twice() {
        settled(2, &[(2, put("a", 1))]).unwrap();
        settled(3, &[(2, put("a", 1)), (3, put("b", 2))]).unwrap();
        settled(4, &[(2, put("a", 1)), (3, put("b", 2)), (4, put("b", 2))]).unwrap_err();
    }

    #[test]
    fn what_was_acknowledged_must_be_there_unchanged_and_what_was_refused_must_not() {
        assert!(settled(1, &[]).unwrap_err().contains("back at 1"));
        settled(2, &[(2, put("b", 2))]).unwrap_err();
        settled(2, &[(2, put("a", 9))]).unwrap_err();
        settled(3, &[(2, put("a", 1)), (3, put("c", 3))]).unwrap_err();
        settled(3, &[(3, put("b", 2))]).unwrap_err();
    }

    #[test]
    fn a_verified_revision_never_changes_again() {
        let mut ledger = Ledger::default();
        let mut history = history();
        ledger.settle(0, 2, Replayed::from([(2, put("a", 1))]), &mut history).unwrap();
        ledger.settle(0, 2, Replayed::from([(2, put("a", 1))]), &mut history).unwrap();
        ledger.settle(0, 2, Replayed::from([(2, put("b", 2))]), &mut history).unwrap_err();
        assert_eq!(ledger.rows_at(2).get("a".as_bytes()).map(|r| (r.id, r.created, r.version)), Some((1, 2, 1)));
    }
}
