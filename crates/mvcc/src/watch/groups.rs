//! Which watchers want a key. Watchers of equal ranges share a group, so ten thousand watchers of
//! one prefix cost one look-up per event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::hub::Watcher;
use crate::key::{KeyRange, prefix_end};

type Group = Vec<Arc<Watcher>>;

/// Watchers by what they watch: single keys and prefixes by hash, other ranges one by one.
#[derive(Default)]
pub(super) struct Groups {
    keys: HashMap<Vec<u8>, Group>,
    prefixes: HashMap<Vec<u8>, Group>,
    /// How many groups there are for each length of prefix.
    prefix_lengths: BTreeMap<usize, usize>,
    spans: HashMap<KeyRange, Group>,
    count: usize,
}

enum Place {
    Key(Vec<u8>),
    Prefix(Vec<u8>),
    Span(KeyRange),
}

fn place(range: &KeyRange) -> Place {
    match range {
        KeyRange::One(key) => Place::Key(key.clone()),
        KeyRange::Span(start, None) if start.is_empty() => Place::Prefix(Vec::new()),
        KeyRange::Span(start, Some(end)) if !start.is_empty() && *end == prefix_end(start) => Place::Prefix(start.clone()),
        span @ KeyRange::Span(..) => Place::Span(span.clone()),
    }
}

impl Groups {
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, watcher: Arc<Watcher>) {
        self.count += 1;
        match place(&watcher.range) {
            Place::Key(key) => self.keys.entry(key).or_default().push(watcher),
            Place::Prefix(prefix) => {
                let length = prefix.len();
                let group = self.prefixes.entry(prefix).or_default();
                if group.is_empty() {
                    *self.prefix_lengths.entry(length).or_default() += 1;
                }
                group.push(watcher);
            }
            Place::Span(span) => self.spans.entry(span).or_default().push(watcher),
        }
    }

    pub(super) fn remove(&mut self, watcher: &Arc<Watcher>) {
        let took = match place(&watcher.range) {
            Place::Key(key) => take(&mut self.keys, &key, watcher),
            Place::Prefix(prefix) => {
                let took = take(&mut self.prefixes, &prefix, watcher);
                if took
                    && !self.prefixes.contains_key(&prefix)
                    && let Some(n) = self.prefix_lengths.get_mut(&prefix.len())
                {
                    *n -= 1;
                    if *n == 0 {
                        self.prefix_lengths.remove(&prefix.len());
                    }
                }
                took
            }
            Place::Span(span) => take(&mut self.spans, &span, watcher),
        };
        self.count -= usize::from(took);
    }

    /// Calls `visit` for each watcher of `key`.
    pub(super) fn for_each(&self, key: &[u8], mut visit: impl FnMut(&Arc<Watcher>)) {
        if let Some(group) = self.keys.get(key) {
            group.iter().for_each(&mut visit);
        }
        for length in self.prefix_lengths.keys().take_while(|l| **l <= key.len()) {
            if let Some(group) = self.prefixes.get(&key[..*length]) {
                group.iter().for_each(&mut visit);
            }
        }
        for (_, group) in self.spans.iter().filter(|(span, _)| span.contains(key)) {
            group.iter().for_each(&mut visit);
        }
    }
}

fn take<K: std::hash::Hash + Eq>(groups: &mut HashMap<K, Group>, key: &K, watcher: &Arc<Watcher>) -> bool {
    let Some(group) = groups.get_mut(key) else { return false };
    let Some(at) = group.iter().position(|w| Arc::ptr_eq(w, watcher)) else { return false };
    group.swap_remove(at);
    if group.is_empty() {
        groups.remove(key);
    }
    true
}
