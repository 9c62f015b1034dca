//! Makes a failing sequence short: drops ever smaller chunks as long as what is left still fails.

use std::time::Instant;

use anyhow::Result;

/// `fails` plays a candidate on fresh servers. Stops at `deadline` with the best found so far.
pub async fn shrink<T: Clone>(
    mut items: Vec<T>,
    deadline: Instant,
    mut fails: impl AsyncFnMut(&[T]) -> Result<bool>,
) -> Result<Vec<T>> {
    let mut chunk = items.len().div_ceil(2);
    while chunk > 0 {
        let mut start = 0;
        let mut dropped = false;
        while start < items.len() {
            if Instant::now() >= deadline {
                return Ok(items);
            }
            let end = (start + chunk).min(items.len());
            let candidate = [&items[..start], &items[end..]].concat();
            if !candidate.is_empty() && fails(&candidate).await? {
                items = candidate;
                dropped = true;
            } else {
                start = end;
            }
        }
        // What could not go before may go now that others are gone.
        if chunk == 1 && dropped {
            continue;
        }
        chunk /= 2;
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_the_items_that_the_failure_needs_are_kept() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let needs = [3, 41, 42, 97];
        let fails = async |items: &[i32]| Ok(needs.iter().all(|n| items.contains(n)));
        assert_eq!(shrink((0..100).collect(), deadline, fails).await.unwrap(), needs);
    }

    #[tokio::test]
    async fn what_is_left_at_the_deadline_still_fails() {
        let fails = async |items: &[i32]| Ok(items.contains(&7));
        let left = shrink((0..100).collect(), Instant::now(), fails).await.unwrap();
        assert!(left.contains(&7));
    }
}
