//! Named places where a test can make the process die, as if it had been killed just there, or hang.
//! `KEELSON_FAILPOINT=name:count` aborts at the count-th pass of `name`; `KEELSON_STALL=name:file` holds every pass
//! up while there is such a file. Unset, a pass costs two loads.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a pass that is held up looks for the file.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

struct Armed {
    name: String,
    left: AtomicU64,
}

struct Stall {
    name: String,
    file: PathBuf,
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

fn stall() -> Option<&'static Stall> {
    static STALL: OnceLock<Option<Stall>> = OnceLock::new();
    STALL
        .get_or_init(|| {
            let value = std::env::var("KEELSON_STALL").ok()?;
            let (name, file) = value.split_once(':')?;
            Some(Stall { name: name.to_owned(), file: file.into() })
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
    if let Some(stall) = stall().filter(|s| s.name == name) {
        while stall.file.exists() {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}
