//! Three members, or five, under load while they are killed, stopped, cut off, slowed down, filled up and replaced, and
//! while their clocks are set: what was acknowledged stays, everything is linearizable, and watchers are told of
//! everything once, in order.
//!
//! Environment: `KEELSON_CHAOS_SECONDS` says how long (90); `KEELSON_CHAOS_SEED` throws the same dice again, and an odd one
//! takes five members.
//! `KEELSON_UNDER_TEST=etcd` runs it on etcd, which tests the test. Needs root, for network namespaces.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keelson_e2e::chaos::linearizable;
use keelson_e2e::chaos::network::Network;
use keelson_e2e::chaos::run::Chaos;
use keelson_e2e::chaos::slow::Trouble;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::durability::settings;
use keelson_e2e::program::Program;
use keelson_e2e::wait;
use serde_json::json;

use crate::ALONE;

const SECONDS: usize = 90;
/// A run of its own does not become better by being longer than that: its history grows.
const ONE_RUN: usize = 180;
const LIMIT: Duration = Duration::from_secs(30);

fn seed() -> Result<u64> {
    match std::env::var("KEELSON_CHAOS_SEED") {
        Ok(text) => text.parse().with_context(|| format!("KEELSON_CHAOS_SEED={text}")),
        Err(_) => Ok(u64::from(rand::random::<u32>())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_stays_linearizable_and_watched_under_every_fault() -> Result<()> {
    let _alone = ALONE.lock().await;
    let (program, seconds) = (Program::under_test()?, settings::number("KEELSON_CHAOS_SECONDS", SECONDS)?);
    let first = seed()?;
    for run in 0..seconds.div_ceil(ONE_RUN) {
        let seed = first.wrapping_add(run as u64);
        let lasts = Duration::from_secs(seconds.min(ONE_RUN) as u64);
        println!("KEELSON_CHAOS_SEED={seed}");
        println!("{}", Chaos { program, seed, lasts, all_kinds: true }.run().await?);
    }
    Ok(())
}

/// The run and its checks must not complain about the original.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_itself_passes_the_same_run() -> Result<()> {
    let _alone = ALONE.lock().await;
    let seed = seed()?;
    println!("KEELSON_CHAOS_SEED={seed}");
    let lasts = Duration::from_secs(settings::number("KEELSON_CHAOS_SECONDS", 25)?.min(ONE_RUN) as u64);
    println!("{}", Chaos { program: Program::Etcd, seed, lasts, all_kinds: false }.run().await?);
    Ok(())
}

#[test]
fn histories_in_no_possible_order_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let op = |client: u64, times: (u64, u64), rest: serde_json::Value| {
        let mut op = json!({"client": client, "key": "k", "call": times.0, "return": times.1, "known": true});
        op.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        op
    };
    let put = |value: &str| json!({"kind": "put", "value": value});
    let get = |found: &str| json!({"kind": "get", "found": found});
    let swap = |expect: &str, value: &str, done: bool| json!({"kind": "cas", "expect": expect, "value": value, "done": done, "found": if done { "" } else { "1" }});
    let unknown = |mut op: serde_json::Value| {
        op["known"] = false.into();
        op
    };
    let delete = |done: bool| json!({"kind": "delete", "done": done});
    let check = |ops: &[serde_json::Value]| {
        let lines: Vec<String> = ops.iter().map(ToString::to_string).collect();
        linearizable::check(&lines.join("\n"), dir.path())
    };
    let good = [
        op(1, (0, 10), put("1")),
        op(2, (5, 15), get("")),
        op(2, (20, 30), get("1")),
        unknown(op(3, (20, 21), put("9"))),
        op(1, (40, 50), swap("1", "2", true)),
        op(2, (60, 70), delete(true)),
        op(2, (80, 90), get("9")),
    ];
    let said = check(&good)?;
    ensure!(said.contains("7 operations on 1 keys are linearizable"), "{said}");
    let bad: [(&str, Vec<serde_json::Value>); 6] = [
        ("a stale read", vec![op(1, (0, 1), put("1")), op(1, (2, 3), put("2")), op(2, (4, 5), get("1"))]),
        ("a lost write", vec![op(1, (0, 1), put("1")), op(2, (2, 3), get(""))]),
        ("two winners", vec![op(1, (0, 9), swap("", "1", true)), op(2, (0, 9), swap("", "2", true))]),
        ("a deletion of nothing", vec![op(1, (0, 1), delete(true))]),
        ("back and forth", vec![op(1, (0, 9), put("1")), op(2, (1, 2), get("1")), op(2, (3, 4), get(""))]),
        ("a value from before it was written", vec![op(2, (0, 1), get("1")), unknown(op(1, (2, 3), put("1")))]),
    ];
    for (what, history) in bad {
        let refused = check(&history).err().with_context(|| format!("{what} was let through"))?;
        ensure!(refused.to_string().contains("not linearizable"), "{what}: {refused:#}");
    }
    Ok(())
}

/// Cables do what is said of them, or the faults would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_silence_one_direction_and_detours_take_time() -> Result<()> {
    let _alone = ALONE.lock().await;
    let mut network = Network::new(3)?;
    let mut cluster = Cluster::seated(Program::under_test()?, &network, &[])?;
    cluster.begin().await?;
    let all = [0, 1, 2];
    let leader = cluster.leader(&all).await?;
    let others = [(leader + 1) % 3, (leader + 2) % 3];

    for other in others {
        network.cut(leader, other)?;
    }
    let next = cluster.leader(&others).await?;
    ensure!(next != leader && cluster.put(leader, "cut", "off").await.is_err(), "a leader that nobody hears goes on");
    cluster.put(next, "without", "it").await?;
    network.heal()?;
    wait::until("it is back", LIMIT, async || Ok(cluster.put(leader, "back", "again").await.is_ok())).await?;
    cluster.agree(&all).await?;

    let leader = cluster.leader(&all).await?;
    let delay = Duration::from_millis(20);
    for (from, to) in all.into_iter().flat_map(|from| all.map(|to| (from, to))) {
        network.slow(from, to, Trouble { delay, jitter: Duration::ZERO, loss: 0.0, reset: 0.0 })?;
    }
    wait::until("it goes on over slow connections", LIMIT, async || Ok(cluster.put(leader, "slow", "1").await.is_ok())).await?;
    let leader = cluster.leader(&all).await?;
    let begin = std::time::Instant::now();
    cluster.put(leader, "slow", "2").await?;
    ensure!(begin.elapsed() >= 2 * delay, "a put took only {:?} there and back", begin.elapsed());
    network.heal()?;
    cluster.agree(&all).await
}
