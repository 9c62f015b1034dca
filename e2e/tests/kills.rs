//! Nothing that was acknowledged is lost, reused or changed when the process dies: at named places
//! of its code, at random moments under load, while it starts and while it stops.
//!
//! Environment: `KEELSON_KILLS` says how many deaths (300); `KEELSON_SEED` throws the same dice again.

use std::time::Instant;

use anyhow::Result;
use keelson_e2e::durability::campaign::{Campaign, Report};
use keelson_e2e::durability::{blow, settings};

/// Most of the time one waits for processes to start, so several are under way.
const LANES: usize = 3;
const KILLS: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_every_kill() -> Result<()> {
    let started = Instant::now();
    let (seed, kills) = (settings::seed()?, settings::number("KEELSON_KILLS", KILLS)?);
    let campaigns: Vec<Campaign> = (0..LANES)
        .map(|lane| Campaign {
            seed: seed.wrapping_add(lane as u64),
            deaths: kills.div_ceil(LANES),
            deaths_per_dir: 20,
            large_value: 256 << 10,
            flags: Vec::new(),
            power: false,
            keep: true,
        })
        .collect();
    let mut report = Report::default();
    for done in futures::future::try_join_all(campaigns.iter().map(Campaign::run)).await? {
        report.add(done);
    }
    println!("{report}; {:.0?}", started.elapsed());
    assert!(report.total() >= kills);
    let done = [report.sum(|m| m.compactions), report.sum(|m| m.watched), report.sum(|m| m.hashes)];
    assert!(done.iter().all(|n| *n > 0), "nothing of one kind was checked: {report}");
    if kills >= KILLS {
        for place in blow::PLACES {
            assert!(report.reached.contains_key(place), "nobody died at {place}: {report}");
        }
    }
    Ok(())
}
