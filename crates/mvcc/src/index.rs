//! What is kept in memory per live key, and a bounded memory of recent creates and deletes that
//! turns a count at the newest revision into a count at a slightly older one.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use keelson_api::Revision;

use crate::key::KeyRange;
use crate::tree::CountedTree;

/// Metadata of one version of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyMeta {
    /// Revision of this version (`mod_revision`).
    pub main: i64,
    /// Position within that revision.
    pub sub: u32,
    /// Length of the value in bytes.
    pub size: u32,
    /// Revision that created the key.
    pub create: i64,
    /// 1 for a create, one more for each change since.
    pub version: i64,
    /// Attached lease, 0 for none.
    pub lease: i64,
}

/// One key that came into being or went away.
#[derive(Debug)]
struct Churn {
    main: i64,
    created: bool,
    key: Box<[u8]>,
}

/// Most recent creates and deletes that are remembered.
const CHURN_ENTRIES: usize = 65_536;
/// Bytes of keys among them.
const CHURN_BYTES: usize = 4 << 20;

/// Live keys, newest version each.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tree: CountedTree<KeyMeta>,
    churn: VecDeque<Churn>,
    churn_bytes: usize,
    /// Creates and deletes after this revision are all in `churn`.
    churn_floor: i64,
    /// Revision of the newest change in the tree; may be ahead of what readers may see.
    head: i64,
}

/// What the index can say about keys at a revision.
pub(crate) enum Lookup {
    /// These keys, exactly.
    Certain(Vec<(Box<[u8]>, KeyMeta)>),
    /// Changes after the revision are in the way: ask the history.
    AskHistory,
}

impl KeyMeta {
    /// Where this version was written.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision::new(self.main, self.sub)
    }

    /// Itself, unless the key has changed after `revision`.
    fn at(&self, revision: i64) -> Option<&Self> {
        (self.main <= revision).then_some(self)
    }
}

impl Index {
    pub(crate) fn load(tree: CountedTree<KeyMeta>, revision: i64) -> Self {
        Self { tree, churn_floor: revision, head: revision, ..Self::default() }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyMeta> {
        self.tree.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.tree.len()
    }

    /// Records a put. The writer calls it before the row is readable.
    pub(crate) fn put(&mut self, key: &[u8], meta: KeyMeta) {
        self.head = meta.main;
        if self.tree.insert(key, meta).is_none() {
            self.remember(meta.main, true, key);
        }
    }

    /// Records a delete.
    pub(crate) fn delete(&mut self, key: &[u8], main: i64) {
        self.head = main;
        if self.tree.remove(key).is_some() {
            self.remember(main, false, key);
        }
    }

    fn remember(&mut self, main: i64, created: bool, key: &[u8]) {
        self.churn_bytes += key.len();
        self.churn.push_back(Churn { main, created, key: key.into() });
    }

    /// Forgets old churn, but nothing after `published`: readers there still need it.
    pub(crate) fn trim(&mut self, published: i64) {
        while self.churn.len() > CHURN_ENTRIES || self.churn_bytes > CHURN_BYTES {
            match self.churn.front() {
                Some(c) if c.main <= published => {
                    self.churn_floor = c.main;
                    self.churn_bytes -= c.key.len();
                    self.churn.pop_front();
                }
                _ => return,
            }
        }
    }

    /// Creates and deletes in `range` after `revision`; `None` when they are no longer remembered.
    fn churn_after<'a>(&'a self, range: &'a KeyRange, revision: i64) -> Option<impl Iterator<Item = &'a Churn>> {
        if revision < self.churn_floor {
            return None;
        }
        let from = self.churn.partition_point(|c| c.main <= revision);
        Some(self.churn.range(from..).filter(|c| range.contains(&c.key)))
    }

    /// Number of keys in `range` as of `revision`, if that can be told without a scan.
    pub(crate) fn count(&self, range: &KeyRange, revision: i64) -> Option<usize> {
        let now = match range {
            KeyRange::One(key) => usize::from(self.tree.get(key).is_some()),
            r if r.is_empty() => return Some(0),
            KeyRange::Span(start, end) => {
                let below_end = end.as_ref().map_or_else(|| self.tree.len(), |e| self.tree.rank(e));
                below_end - self.tree.rank(start)
            }
        };
        if revision >= self.head {
            return Some(now);
        }
        let mut created = 0;
        let mut deleted = 0;
        for c in self.churn_after(range, revision)? {
            if c.created { created += 1 } else { deleted += 1 }
        }
        Some(now + deleted - created)
    }

    /// The first `limit` keys of `range` as of `revision`.
    pub(crate) fn lookup(&self, range: &KeyRange, revision: i64, limit: usize) -> Lookup {
        let mut found = Vec::new();
        let visit = |key: &[u8], meta: Option<&KeyMeta>| meta.map(|meta| found.push((key.into(), *meta))).is_some();
        match self.visit_at(range, revision, limit, visit) {
            Some(()) => Lookup::Certain(found),
            None => Lookup::AskHistory,
        }
    }

    /// Visits the first `limit` keys of `range` as of `revision`, without metadata where a key has
    /// changed since; the visitor answers false to give up. `None` if it did, or if keys that were
    /// deleted since are missing, and then what was visited says nothing.
    pub(crate) fn visit_at(
        &self,
        range: &KeyRange,
        revision: i64,
        limit: usize,
        mut visit: impl FnMut(&[u8], Option<&KeyMeta>) -> bool,
    ) -> Option<()> {
        if let KeyRange::One(key) = range
            && let Some(meta) = self.tree.get(key)
            && meta.create <= revision
        {
            return visit(key, meta.at(revision)).then_some(());
        }
        // A key deleted since would be missing below.
        if revision < self.head && self.churn_after(range, revision)?.any(|c| !c.created) {
            return None;
        }
        if matches!(range, KeyRange::One(_)) {
            return Some(());
        }
        let mut left = limit;
        let given_up = self.tree.visit_from(range.start(), |key, meta| {
            if left == 0 || !range.contains(key) {
                return ControlFlow::Break(false);
            }
            if meta.create <= revision {
                left -= 1;
                if !visit(key, meta.at(revision)) {
                    return ControlFlow::Break(true);
                }
            }
            ControlFlow::Continue(())
        });
        (given_up != Some(true)).then_some(())
    }

    /// Calls `visit` for each live key of `range` at the newest revision.
    pub(crate) fn for_each(&self, range: &KeyRange, mut visit: impl FnMut(&[u8], &KeyMeta)) {
        match range {
            KeyRange::One(key) => {
                if let Some(meta) = self.tree.get(key) {
                    visit(key, meta);
                }
            }
            KeyRange::Span(..) => {
                self.tree.visit_from::<()>(range.start(), |key, meta| {
                    if !range.contains(key) {
                        return ControlFlow::Break(());
                    }
                    visit(key, meta);
                    ControlFlow::Continue(())
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(main: i64, create: i64) -> KeyMeta {
        KeyMeta { main, create, version: 1, ..KeyMeta::default() }
    }

    #[test]
    fn counts_at_older_revisions_until_they_are_forgotten() {
        let mut index = Index::load(CountedTree::default(), 1);
        index.put(b"a", meta(2, 2));
        index.put(b"b", meta(3, 3));
        index.delete(b"a", 4);
        index.put(b"b", meta(5, 3));
        index.put(b"c", meta(6, 6));
        let all = KeyRange::from_api(b"\0", b"\0");
        let counts: Vec<_> = (1..=6).map(|r| index.count(&all, r)).collect();
        assert_eq!(counts, [0, 1, 2, 1, 1, 2].map(Some));
        assert_eq!(index.count(&KeyRange::One(b"a".to_vec()), 3), Some(1));
        index.churn_floor = 4;
        assert_eq!(index.count(&all, 3), None);
    }

    #[test]
    fn a_lookup_below_the_head_never_shows_newer_versions() {
        let mut index = Index::load(CountedTree::default(), 1);
        index.put(b"a", meta(2, 2));
        index.put(b"b", meta(3, 3));
        let all = KeyRange::from_api(b"a", b"z");
        assert!(matches!(index.lookup(&all, 2, 9), Lookup::Certain(v) if v.len() == 1));
        index.put(b"a", meta(4, 2));
        assert!(matches!(index.lookup(&all, 3, 9), Lookup::AskHistory));
        index.delete(b"b", 5);
        assert!(matches!(index.lookup(&all, 4, 9), Lookup::AskHistory));
        assert!(matches!(index.lookup(&all, 5, 9), Lookup::Certain(v) if v.len() == 1));
    }
}
