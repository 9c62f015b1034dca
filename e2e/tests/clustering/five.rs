//! Five members: two may fail, whichever they are; a third one is too many, and then nothing is written that could be lost.

use anyhow::{Context, Result, ensure};
use keelson_api::etcdserverpb::RangeRequest;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::wait;

use super::{LIMIT, limited};

const MEMBERS: usize = 5;

#[tokio::test]
async fn five_members_go_on_without_two_and_wait_without_three() -> Result<()> {
    let mut cluster = Cluster::start(Program::under_test()?, MEMBERS, &[]).await?;
    let all: Vec<usize> = (0..MEMBERS).collect();
    for writer in &all {
        cluster.put(*writer, &format!("key/{writer}"), "five").await?;
    }
    let leader = cluster.leader(&all).await?;
    let from_leader: Vec<usize> = all.iter().map(|n| (leader + n) % MEMBERS).collect();
    let (dead, left) = from_leader.split_at(2);
    for number in dead {
        cluster.members[*number].kill();
    }
    cluster.leader(left).await?;
    for writer in left {
        wait::until("writes go on", LIMIT, async || Ok(cluster.put(*writer, "key/left", "three").await.is_ok())).await?;
    }
    cluster.agree(left).await?;

    cluster.members[left[0]].kill();
    let left = &left[1..];
    ensure!(cluster.put(left[0], "key/lost", "two").await.is_err(), "two of five have acknowledged a write");
    let mut kv = KvClient::connect(cluster.members[left[1]].client_url()).await?;
    let own = RangeRequest { key: "key/left".into(), serializable: true, ..Default::default() };
    let found = kv.range(limited(own)).await.context("a serializable read needs nobody else")?.into_inner().kvs;
    ensure!(found.first().is_some_and(|kv| kv.value == "three"), "{found:?}");

    for number in from_leader.iter().filter(|number| !left.contains(number)) {
        cluster.members[*number].spawn()?;
    }
    for member in &mut cluster.members {
        member.ready().await?;
    }
    cluster.agree(&all).await?;
    for reader in &all {
        ensure!(cluster.get(*reader, "key/0").await?.as_deref() == Some("five"));
    }
    Ok(())
}
