//! Sizes of a campaign that the environment may raise, and its seed.

use std::env;

use anyhow::{Context, Result};

/// The number in a variable, or its default.
pub fn number(name: &str, default: usize) -> Result<usize> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

/// `KEELSON_SEED`, or a fresh one; printed, since it is needed to repeat a failure.
pub fn seed() -> Result<u64> {
    let seed = match env::var("KEELSON_SEED") {
        Ok(text) => text.parse().with_context(|| format!("KEELSON_SEED={text}"))?,
        Err(_) => rand::random(),
    };
    println!("KEELSON_SEED={seed}");
    Ok(seed)
}
