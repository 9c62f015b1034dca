//! Each heavy dependency belongs to the crates that `deny.toml` names, and to no other. cargo-deny checks that and more where
//! it is installed; this holds everywhere.

use std::collections::BTreeSet;
use std::fs;

/// What stands in quotes.
fn quoted(line: &str) -> Vec<&str> {
    line.split('"').skip(1).step_by(2).collect()
}

/// Crates that belong to others, with those.
fn bans(deny: &str) -> Vec<(&str, BTreeSet<&str>)> {
    let lines = deny.lines().map(str::trim).filter(|line| line.starts_with("{ crate = "));
    lines.filter_map(|line| quoted(line).split_first().map(|(name, owners)| (*name, owners.iter().copied().collect()))).collect()
}

/// Who depends on a crate, by the lock file.
fn dependents<'a>(lock: &'a str, on: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut package = "";
    for line in lock.lines() {
        let Some(first) = quoted(line).first().copied() else { continue };
        if line.starts_with("name = ") {
            package = first;
        } else if line.starts_with(' ') && first.split(' ').next() == Some(on) {
            // Some versions stand after the name.
            found.insert(package);
        }
    }
    found
}

#[test]
fn heavy_dependencies_are_used_where_they_belong_and_nowhere_else() {
    let (deny, lock) = (fs::read_to_string("../deny.toml").unwrap(), fs::read_to_string("../Cargo.lock").unwrap());
    let bans = bans(&deny);
    assert!(bans.iter().any(|(name, _)| *name == "rocksdb"), "{bans:?}");
    for (name, owners) in bans {
        assert_eq!(dependents(&lock, name), owners, "who uses {name}");
    }
}
