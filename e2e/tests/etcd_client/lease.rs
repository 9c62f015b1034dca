//! Leases: a service that is registered for as long as it says that it lives.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Error, EventType, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions};
use tonic::Code;

use super::{LIMIT, refused, start};

/// The shortest that a server with the usual election timeout grants, in seconds.
const SHORTEST: i64 = 2;

#[tokio::test]
async fn a_service_is_listed_while_it_lives_and_gone_soon_after() -> Result<()> {
    let (_server, mut client) = start().await?;
    let mut watch = client.watch("service/", Some(WatchOptions::new().with_prefix().with_prev_key())).await?;
    let lease = client.lease_grant(SHORTEST, None).await?;
    let options = PutOptions::new().with_lease(lease.id());
    client.put("service/a", "10.0.0.1", Some(options)).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease.id()).await?;
    let lives_until = tokio::time::Instant::now() + Duration::from_secs(SHORTEST as u64 + 1);
    // As often as a client of a lease this short would.
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    while tokio::time::Instant::now() < lives_until {
        pace.tick().await;
        keeper.keep_alive().await?;
        let answer = answers.message().await?.context("the stream of answers has ended")?;
        assert_eq!((answer.id(), answer.ttl()), (lease.id(), SHORTEST));
    }
    assert_eq!(client.get("service/a", None).await?.count(), 1, "it lived on beyond its first term");

    // Nobody keeps it alive any more.
    let mut events = Vec::new();
    while events.len() < 2 {
        let response = tokio::time::timeout(LIMIT, watch.message()).await.context("nobody told")??.context("the watch ended")?;
        events.extend(response.events().iter().map(|e| (e.event_type(), e.prev_kv().map(|kv| kv.lease()))));
    }
    assert_eq!(events, [(EventType::Put, None), (EventType::Delete, Some(lease.id()))]);
    ensure!(matches!(client.lease_keep_alive(lease.id()).await, Err(Error::LeaseKeepAliveError(_))));
    Ok(())
}

#[tokio::test]
async fn a_lease_tells_its_keys_and_takes_them_along_when_it_is_revoked() -> Result<()> {
    let (_server, mut client) = start().await?;
    let lease = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(77))).await?;
    assert_eq!((lease.id(), lease.ttl()), (77, 60));
    let again = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(77))).await;
    refused(again, Code::FailedPrecondition, "etcdserver: lease already exists")?;
    for key in ["l/b", "l/a"] {
        client.put(key, "", Some(PutOptions::new().with_lease(77))).await?;
    }
    let mut told = client.lease_time_to_live(77, Some(LeaseTimeToLiveOptions::new().with_keys())).await?.keys().to_vec();
    told.sort();
    assert_eq!(told, [b"l/a", b"l/b"]);
    assert_eq!(client.leases().await?.leases().iter().map(|l| l.id()).collect::<Vec<_>>(), [77]);
    // Written without a lease, a key stays.
    client.put("l/b", "", None).await?;
    client.lease_revoke(77).await?;
    assert_eq!((client.get("l/a", None).await?.count(), client.get("l/b", None).await?.count()), (0, 1));
    refused(client.lease_revoke(77).await, Code::NotFound, "etcdserver: requested lease not found")?;
    assert_eq!(client.lease_time_to_live(77, None).await?.ttl(), -1);
    let unknown = client.put("l/c", "", Some(PutOptions::new().with_lease(77))).await;
    refused(unknown, Code::NotFound, "etcdserver: requested lease not found")
}
