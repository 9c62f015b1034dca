//! Waiting for a condition with a deadline, which is the only way tests here wait for anything.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition that cannot notify is looked at again.
const POLL: Duration = Duration::from_millis(10);

/// Polls `condition` until it holds; the error names `what` was waited for.
pub async fn until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    if condition().await? {
        return Ok(());
    }
    until_every(POLL, what, limit, condition).await
}

/// The same for a condition that is expensive to look at: once in a `period`, and for the first time at the end of one.
pub async fn until_every(
    period: Duration,
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        tokio::time::sleep(period).await;
        if condition().await? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
    }
}
