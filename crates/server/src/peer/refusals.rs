//! Refusals among members, told once and not with every call: a member that is started with the data of another
//! cluster, or with another `--initial-cluster-token`, goes on calling.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// Refusals that were told already. More different ones than this are not worth a line each.
static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
const MANY: usize = 64;

/// Tells of a refusal that was not told before.
pub fn tell(what: &'static str, why: &str) {
    let mut told = TOLD.lock();
    if told.len() < MANY && told.insert(format!("{what}: {why}")) {
        tracing::warn!(error = why, "{what}");
    }
}
