//! Named places where a test can make the process die, as if it had been killed just there.
//! `KEELSON_FAILPOINT=name:count` aborts at the count-th pass of `name`; unset, a pass costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Armed {
    name: String,
    left: AtomicU64,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED
        .get_or_init(|| {
            let value = std::env::var("KEELSON_FAILPOINT").ok()?;
            let (name, count) = value.split_once(':').unwrap_or((&value, "1"));
            Some(Armed { name: name.to_owned(), left: AtomicU64::new(count.parse().ok()?) })
        })
        .as_ref()
}

/// Passes the place `name`.
pub fn pass(name: &str) {
    if let Some(point) = armed()
        && point.name == name
        && point.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // No destructors, no flushes: what a SIGKILL leaves behind.
        std::process::abort();
    }
}
