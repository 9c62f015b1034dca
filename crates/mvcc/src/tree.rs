//! A B+tree that knows how many entries lie below each node, so that counting a range and finding
//! its n-th key cost O(log n). Written for the index: keys are byte strings, values are small.

use std::ops::ControlFlow;

const MAX: usize = 48;
const MIN: usize = MAX / 4;

/// Sorted map from byte strings to `V` with order statistics.
#[derive(Debug)]
pub(crate) struct CountedTree<V> {
    root: Node<V>,
}

#[derive(Debug)]
enum Node<V> {
    Leaf(Vec<(Box<[u8]>, V)>),
    Inner(Vec<Child<V>>),
}

#[derive(Debug)]
struct Child<V> {
    /// Lower bound of the keys below; the first child's bound is not looked at.
    low: Box<[u8]>,
    count: usize,
    node: Node<V>,
}

impl<V> Default for CountedTree<V> {
    fn default() -> Self {
        Self { root: Node::Leaf(Vec::new()) }
    }
}

impl<V> CountedTree<V> {
    /// Builds the tree from keys in ascending order, packed for reading.
    pub(crate) fn from_sorted(entries: impl Iterator<Item = (Box<[u8]>, V)>) -> Self {
        const FILL: usize = MAX * 3 / 4;
        let mut level: Vec<Child<V>> = Vec::new();
        let mut leaf: Vec<(Box<[u8]>, V)> = Vec::with_capacity(FILL);
        let seal = |leaf: &mut Vec<(Box<[u8]>, V)>, level: &mut Vec<Child<V>>| {
            if let Some((first, _)) = leaf.first() {
                level.push(Child { low: first.clone(), count: leaf.len(), node: Node::Leaf(std::mem::take(leaf)) });
            }
        };
        for entry in entries {
            debug_assert!(leaf.last().is_none_or(|(k, _)| *k < entry.0));
            leaf.push(entry);
            if leaf.len() == FILL {
                seal(&mut leaf, &mut level);
                leaf.reserve(FILL);
            }
        }
        seal(&mut leaf, &mut level);
        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len() / FILL + 1);
            let mut rest = level.into_iter().peekable();
            while rest.peek().is_some() {
                let kids: Vec<_> = rest.by_ref().take(FILL).collect();
                above.push(Child {
                    low: kids[0].low.clone(),
                    count: kids.iter().map(|c| c.count).sum(),
                    node: Node::Inner(kids),
                });
            }
            level = above;
        }
        Self { root: level.pop().map_or_else(|| Node::Leaf(Vec::new()), |c| c.node) }
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.root.count()
    }

    /// The entry of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(kids) => node = &kids[child_of(kids, key)].node,
                Node::Leaf(entries) => {
                    return find(entries, key).ok().map(|i| &entries[i].1);
                }
            }
        }
    }

    /// Sets the entry of `key`, answering what it replaced.
    pub(crate) fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        let (old, split) = self.root.insert(key, value);
        if let Some(right) = split {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            let left = Child { low: Box::default(), count: left.count(), node: left };
            self.root = Node::Inner(vec![left, right]);
        }
        old
    }

    /// Removes the entry of `key`.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let old = self.root.remove(key);
        if let Node::Inner(kids) = &mut self.root {
            if kids.len() == 1 {
                self.root = kids.pop().expect("one child").node;
            } else if kids.is_empty() {
                self.root = Node::Leaf(Vec::new());
            }
        }
        old
    }

    /// Number of entries with a key below `key`.
    pub(crate) fn rank(&self, key: &[u8]) -> usize {
        let mut node = &self.root;
        let mut below = 0;
        loop {
            match node {
                Node::Inner(kids) => {
                    let at = child_of(kids, key);
                    below += kids[..at].iter().map(|c| c.count).sum::<usize>();
                    node = &kids[at].node;
                }
                Node::Leaf(entries) => return below + find(entries, key).unwrap_or_else(|i| i),
            }
        }
    }

    /// Visits entries from `start` on in key order until the visitor breaks.
    pub(crate) fn visit_from<B>(&self, start: &[u8], mut visit: impl FnMut(&[u8], &V) -> ControlFlow<B>) -> Option<B> {
        match self.root.visit_from(start, &mut visit) {
            ControlFlow::Break(b) => Some(b),
            ControlFlow::Continue(()) => None,
        }
    }
}

fn find<V>(entries: &[(Box<[u8]>, V)], key: &[u8]) -> Result<usize, usize> {
    entries.binary_search_by(|(k, _)| (**k).cmp(key))
}

fn child_of<V>(kids: &[Child<V>], key: &[u8]) -> usize {
    kids[1..].partition_point(|c| *c.low <= *key)
}

impl<V> Node<V> {
    fn count(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(kids) => kids.iter().map(|c| c.count).sum(),
        }
    }

    fn slots(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(kids) => kids.len(),
        }
    }

    fn insert(&mut self, key: &[u8], value: V) -> (Option<V>, Option<Child<V>>) {
        match self {
            Node::Leaf(entries) => match find(entries, key) {
                Ok(i) => (Some(std::mem::replace(&mut entries[i].1, value)), None),
                Err(i) => {
                    entries.insert(i, (key.into(), value));
                    // Ascending inserts keep the left half full instead of half empty.
                    let at = if i + 1 == entries.len() { entries.len() - 1 } else { entries.len() / 2 };
                    (
                        None,
                        (entries.len() > MAX).then(|| {
                            let right = entries.split_off(at);
                            entries.shrink_to(MAX);
                            Child { low: right[0].0.clone(), count: right.len(), node: Node::Leaf(right) }
                        }),
                    )
                }
            },
            Node::Inner(kids) => {
                let at = child_of(kids, key);
                let (old, split) = kids[at].node.insert(key, value);
                kids[at].count += usize::from(old.is_none());
                if let Some(right) = split {
                    kids[at].count -= right.count;
                    kids.insert(at + 1, right);
                }
                let above = (kids.len() > MAX).then(|| {
                    let mut right = kids.split_off(MAX / 2);
                    let low = std::mem::take(&mut right[0].low);
                    Child { low, count: right.iter().map(|c| c.count).sum(), node: Node::Inner(right) }
                });
                (old, above)
            }
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<V> {
        match self {
            Node::Leaf(entries) => find(entries, key).ok().map(|i| entries.remove(i).1),
            Node::Inner(kids) => {
                let at = child_of(kids, key);
                let old = kids[at].node.remove(key)?;
                kids[at].count -= 1;
                match kids[at].node.slots() {
                    0 => drop(kids.remove(at)),
                    n if n < MIN => join(kids, at),
                    _ => {}
                }
                Some(old)
            }
        }
    }

    fn visit_from<B>(&self, start: &[u8], visit: &mut impl FnMut(&[u8], &V) -> ControlFlow<B>) -> ControlFlow<B> {
        match self {
            Node::Leaf(entries) => {
                let from = find(entries, start).unwrap_or_else(|i| i);
                for (k, v) in &entries[from..] {
                    visit(k, v)?;
                }
            }
            Node::Inner(kids) => {
                for child in &kids[child_of(kids, start)..] {
                    child.node.visit_from(start, visit)?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Merges a thin child with its left or right neighbour when both fit into one node.
fn join<V>(kids: &mut Vec<Child<V>>, at: usize) {
    if kids.len() < 2 {
        return;
    }
    let left = at.saturating_sub(1);
    if kids[left].node.slots() + kids[left + 1].node.slots() > MAX * 3 / 4 {
        return;
    }
    let right = kids.remove(left + 1);
    kids[left].count += right.count;
    match (&mut kids[left].node, right.node) {
        (Node::Leaf(a), Node::Leaf(mut b)) => a.append(&mut b),
        (Node::Inner(a), Node::Inner(mut b)) => {
            if let Some(first) = b.first_mut() {
                first.low = right.low;
            }
            a.append(&mut b);
        }
        _ => unreachable!("siblings are on one level"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn check(tree: &CountedTree<u32>, model: &BTreeMap<Vec<u8>, u32>, rng: &mut StdRng) {
        assert_eq!(tree.len(), model.len());
        let probe = rng.random_range(0..4000_u32).to_be_bytes();
        assert_eq!(tree.get(&probe), model.get(probe.as_slice()));
        assert_eq!(tree.rank(&probe), model.range(..probe.to_vec()).count());
        let mut seen = Vec::new();
        tree.visit_from::<()>(&probe, |k, v| {
            seen.push((k.to_vec(), *v));
            if seen.len() == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let want: Vec<_> = model.range(probe.to_vec()..).take(20).map(|(k, v)| (k.clone(), *v)).collect();
        assert_eq!(seen, want);
    }

    #[test]
    fn agrees_with_a_plain_map_through_growth_and_shrinking() {
        for seed in 0..8 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut tree = CountedTree::default();
            let mut model = BTreeMap::new();
            for step in 0..20_000_u32 {
                let key = rng.random_range(0..4000_u32).to_be_bytes();
                let grow = if step < 10_000 { 0.7 } else { 0.25 };
                if rng.random_bool(grow) {
                    assert_eq!(tree.insert(&key, step), model.insert(key.to_vec(), step));
                } else {
                    assert_eq!(tree.remove(&key), model.remove(key.as_slice()));
                }
                if step % 50 == 0 {
                    check(&tree, &model, &mut rng);
                }
            }
            for key in model.keys().cloned().collect::<Vec<_>>() {
                assert_eq!(tree.remove(&key), model.remove(&key));
            }
            assert_eq!(tree.len(), 0);
        }
    }

    #[test]
    fn bulk_build_equals_inserts() {
        let mut rng = StdRng::seed_from_u64(1);
        for n in [0_u32, 1, 35, 36, 37, 5000] {
            let model: BTreeMap<_, _> = (0..n).map(|i| ((i * 3).to_be_bytes().to_vec(), i)).collect();
            let mut tree = CountedTree::from_sorted(model.iter().map(|(k, v)| (k.as_slice().into(), *v)));
            check(&tree, &model, &mut rng);
            tree.insert(&7_u32.to_be_bytes(), 1);
            assert_eq!(tree.len(), model.len() + 1);
        }
    }
}
