//! Nothing that was acknowledged is lost when the power goes: whatever the server had not synced is
//! taken from its files, bytes and names. That losses would be found is proved by switching the
//! syncs off.
//!
//! Environment: `KEELSON_POWER_CUTS` says how many cuts (100); `KEELSON_SEED` throws the same dice again.

use std::time::Instant;

use anyhow::Result;
use keelson_e2e::durability::campaign::{Campaign, Report};
use keelson_e2e::durability::settings;

const LANES: usize = 2;
const CUTS: usize = 100;

fn campaign(seed: u64, cuts: usize, flags: &[&'static str]) -> Campaign {
    Campaign {
        seed,
        deaths: cuts,
        deaths_per_dir: 15,
        large_value: 256 << 10,
        flags: flags.to_vec(),
        power: true,
        keep: flags.is_empty(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_every_power_cut() -> Result<()> {
    let started = Instant::now();
    let (seed, cuts) = (settings::seed()?, settings::number("KEELSON_POWER_CUTS", CUTS)?);
    let lanes: Vec<Campaign> =
        (0..LANES).map(|lane| campaign(seed.wrapping_add(lane as u64), cuts.div_ceil(LANES), &[])).collect();
    let mut report = Report::default();
    for done in futures::future::try_join_all(lanes.iter().map(Campaign::run)).await? {
        report.add(done);
    }
    println!("{report}; {:.0?}", started.elapsed());
    assert!(report.total() >= cuts);
    let done = [report.sum(|m| m.compactions), report.sum(|m| m.watched), report.sum(|m| m.hashes)];
    assert!(done.iter().all(|n| *n > 0), "nothing of one kind was checked: {report}");
    assert!(!report.reached.is_empty(), "nobody died at a named place: {report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_sync_is_found_to_lose_what_it_acknowledged() -> Result<()> {
    let error =
        campaign(settings::seed()?, 15, &["--unsafe-no-fsync"]).run().await.expect_err("without syncs, a cut loses writes");
    let error = format!("{error:#}");
    // It starts without what it acknowledged, or finds a hole in its log and refuses to.
    let without = error.contains("a promise is broken") && error.contains("had been told");
    let refused = error.contains("the raft log is damaged");
    assert!(without || refused, "found something else: {error}");
    Ok(())
}
