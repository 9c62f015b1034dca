//! What those who run a store ask of it: its state, its members, and room.

use anyhow::{Context, Result, ensure};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions, GetOptions};
use tonic::Code;

use super::{refused, start};

#[tokio::test]
async fn the_state_of_a_member_is_told() -> Result<()> {
    let (server, mut client) = start().await?;
    let put = client.put("key", "value", None).await?;
    let header = put.header().context("header")?;
    let status = client.status().await?;
    ensure!(status.version().starts_with("3.7."), "version {}", status.version());
    ensure!(status.db_size() > 0 && status.raft_index() > 0 && status.raft_applied_index() > 0, "{status:?}");
    assert_eq!((status.leader(), status.is_learner(), status.errors().len()), (header.member_id(), false, 0));

    let members = client.member_list().await?;
    let [member] = members.members() else { anyhow::bail!("{members:?}") };
    assert_eq!((member.id(), member.name(), member.is_learner()), (header.member_id(), "default", false));
    assert_eq!((member.client_urls(), member.peer_urls()), (&[server.client_url()][..], &[server.peer_url()][..]));
    Ok(())
}

#[tokio::test]
async fn equal_content_has_an_equal_hash_until_it_changes() -> Result<()> {
    let (_server, mut client) = start().await?;
    client.put("key", "one", None).await?;
    let (first, all) = (client.hash_kv(0).await?, client.hash().await?.hash());
    assert_eq!((first.hash_revision(), first.compact_version()), (2, -1));
    assert_eq!(client.hash_kv(0).await?.hash(), first.hash());
    client.put("key", "two", None).await?;
    assert_ne!(client.hash_kv(0).await?.hash(), first.hash());
    assert_ne!(client.hash().await?.hash(), all);
    assert_eq!(client.hash_kv(2).await?.hash(), first.hash(), "the past does not change");
    Ok(())
}

#[tokio::test]
async fn history_is_given_up_on_request_and_the_present_stays() -> Result<()> {
    let (_server, mut client) = start().await?;
    for i in 0..10 {
        client.put("key", i.to_string(), None).await?;
    }
    client.compact(10, Some(CompactionOptions::new().with_physical())).await?;
    let past = client.get("key", Some(GetOptions::new().with_revision(9))).await;
    refused(past, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")?;
    refused(client.compact(10, None).await, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")?;
    refused(client.compact(99, None).await, Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")?;
    client.defragment().await?;
    for (revision, value) in [(10, "8"), (11, "9"), (0, "9")] {
        let read = client.get("key", Some(GetOptions::new().with_revision(revision))).await?;
        assert_eq!(read.kvs()[0].value_str()?, value, "at revision {revision}");
    }
    Ok(())
}

#[tokio::test]
async fn an_alarm_stops_writes_until_it_is_disarmed() -> Result<()> {
    let (_server, mut client) = start().await?;
    client.put("key", "value", None).await?;
    ensure!(client.alarm(AlarmAction::Get, AlarmType::None, None).await?.alarms().is_empty());
    let mut options = AlarmOptions::new();
    options.with_member(client.status().await?.leader());
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, Some(options.clone())).await?;
    refused(client.put("key", "", None).await, Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")?;
    let listed = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    ensure!(matches!(listed.alarms(), [one] if one.alarm() == AlarmType::Nospace), "{listed:?}");
    assert_eq!(client.get("key", None).await?.count(), 1);
    client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options)).await?;
    client.put("key", "", None).await?;
    Ok(())
}
