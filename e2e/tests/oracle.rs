//! Keelson answers every request as etcd does: a hundred thousand random requests, the same ones
//! every time plus some new ones, with the answers of the two compared field by field.
//!
//! Environment: `KEELSON_UNDER_TEST=etcd` compares etcd with itself, which tests the oracle;
//! `KEELSON_ORACLE_SEED` repeats the fresh sequences of an earlier run; `KEELSON_ORACLE_REPLAY`
//! names a script to play instead.

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use keelson_e2e::oracle::campaign::{Mix, Report, Sequence, report, run};
use keelson_e2e::oracle::generate::Profile;
use keelson_e2e::oracle::pair::Pair;
use keelson_e2e::oracle::script;
use keelson_e2e::program::Program;
use parking_lot::Mutex;

const SHRINK_LIMIT: Duration = Duration::from_secs(120);
/// Most of the time is spent waiting for servers, so several pairs of them are kept busy.
const LANES: usize = 3;
const NARROW_SEEDS: std::ops::Range<u64> = 1..20;
const WIDE_SEEDS: std::ops::Range<u64> = 100..102;
const NARROW_REQUESTS: usize = 5_000;
const WIDE_REQUESTS: usize = 2_000;
const LEAST_REQUESTS: usize = 100_000;

fn sequences() -> Result<Vec<Sequence>> {
    let fresh = match env::var("KEELSON_ORACLE_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => rand::random(),
    };
    println!("the fresh sequences have KEELSON_ORACLE_SEED={fresh}");
    let narrow = |seed| Sequence { seed, requests: NARROW_REQUESTS, profile: Profile::Narrow };
    let wide = |seed| Sequence { seed, requests: WIDE_REQUESTS, profile: Profile::Wide };
    Ok([narrow(fresh), wide(fresh)].into_iter().chain(WIDE_SEEDS.map(wide)).chain(NARROW_SEEDS.map(narrow)).collect())
}

/// Takes sequences off the list until it is empty or one fails.
async fn lane(todo: &Mutex<Vec<Sequence>>, mix: &Mutex<Mix>) -> Result<Option<Report>> {
    let mut pair = Pair::start(Program::Etcd, Program::under_test()?).await?;
    let mut used = false;
    loop {
        let Some(sequence) = todo.lock().pop() else {
            return Ok(None);
        };
        if used {
            pair.start_over().await?;
        }
        used = true;
        let mut played = Mix::default();
        let failure = run(&pair, sequence, &mut played).await?;
        mix.lock().add(&played);
        if let Some(failure) = failure {
            todo.lock().clear();
            return report(&mut pair, format!("{sequence:?}"), failure, SHRINK_LIMIT).await.map(Some);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_the_one_that_etcd_gives() -> Result<()> {
    if let Ok(file) = env::var("KEELSON_ORACLE_REPLAY") {
        return replay(&file).await;
    }
    let started = Instant::now();
    let (todo, mix) = (Mutex::new(sequences()?), Mutex::new(Mix::default()));
    let lanes = (0..LANES).map(|_| lane(&todo, &mix));
    let reports: Vec<Report> = futures::future::try_join_all(lanes).await?.into_iter().flatten().collect();
    let mix = mix.into_inner();
    println!("{mix} in {:.0?}", started.elapsed());
    for report in &reports {
        println!("{report}");
    }
    assert!(reports.is_empty(), "{} sequences differ, see above", reports.len());
    assert!(mix.total() >= LEAST_REQUESTS, "only {} requests", mix.total());
    Ok(())
}

async fn replay(file: &str) -> Result<()> {
    let steps = script::parse(&std::fs::read_to_string(file)?)?;
    let pair = Pair::start(Program::Etcd, Program::under_test()?).await?;
    if let Some(failure) = pair.connect().await?.replay(&steps).await {
        bail!("{file}: step {} differs\n{}", failure.steps.len(), failure.difference);
    }
    Ok(())
}
