//! Waiting for a condition with a deadline, which is the only way tests here wait for anything.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition that cannot notify is looked at again.
const POLL: Duration = Duration::from_millis(10);

/// Polls `condition` until it holds; the error names `what` was waited for.
pub async fn until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !condition().await? {
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
