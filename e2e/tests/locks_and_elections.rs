//! The Lock and Election services: who comes first is first, whose lease ends is out, and who no longer
//! waits is not waited for. Etcd goes through the same.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, RangeRequest};
use keelson_api::mvccpb::KeyValue;
use keelson_api::v3electionpb::election_client::ElectionClient;
use keelson_api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use keelson_api::v3lockpb::lock_client::LockClient;
use keelson_api::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use keelson_e2e::cluster::Cluster;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(20);

/// One server, and all that is asked of it.
struct Store {
    _server: Server,
    channel: Channel,
}

type Waiting<T> = JoinHandle<Result<T, Status>>;

impl Store {
    async fn start(program: Program) -> Result<Self> {
        let server = Server::start(program, &["--log-level", "warn"]).await?;
        let channel = server.channel().await?;
        Ok(Self { _server: server, channel })
    }

    async fn grant(&self, id: i64) -> Result<()> {
        LeaseClient::new(self.channel.clone()).lease_grant(LeaseGrantRequest { ttl: 100, id }).await?;
        Ok(())
    }

    async fn revoke(&self, id: i64) -> Result<()> {
        LeaseClient::new(self.channel.clone()).lease_revoke(LeaseRevokeRequest { id }).await?;
        Ok(())
    }

    /// Everything that begins so, the oldest first.
    async fn keys(&self, prefix: &str) -> Result<Vec<KeyValue>> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().context("a prefix")? += 1;
        let range = RangeRequest { key: prefix.to_owned().into(), range_end: end.into(), ..Default::default() };
        let mut found = KvClient::new(self.channel.clone()).range(range).await?.into_inner().kvs;
        found.sort_by_key(|kv| kv.create_revision);
        Ok(found)
    }

    /// Waits until so many stand in a line.
    async fn stand_in_line(&self, name: &str, count: usize) -> Result<()> {
        let prefix = format!("{name}/");
        wait::until(&format!("{count} stand in the line {name}"), LIMIT, async || Ok(self.keys(&prefix).await?.len() == count))
            .await
    }

    async fn lock(&self, lease: i64) -> Result<LockResponse, Status> {
        let request = LockRequest { name: "lock".into(), lease };
        Ok(LockClient::new(self.channel.clone()).lock(request).await?.into_inner())
    }

    fn lock_later(&self, lease: i64) -> Waiting<LockResponse> {
        let mut client = LockClient::new(self.channel.clone());
        tokio::spawn(async move { Ok(client.lock(LockRequest { name: "lock".into(), lease }).await?.into_inner()) })
    }

    async fn unlock(&self, key: &str) -> Result<(), Status> {
        LockClient::new(self.channel.clone()).unlock(UnlockRequest { key: key.to_owned().into() }).await.map(|_| ())
    }

    fn campaign(&self, lease: i64, value: &str) -> Waiting<CampaignResponse> {
        let mut client = ElectionClient::new(self.channel.clone());
        let request = CampaignRequest { name: "election".into(), lease, value: value.to_owned().into() };
        tokio::spawn(async move { Ok(client.campaign(request).await?.into_inner()) })
    }

    async fn leader(&self) -> Result<LeaderResponse, Status> {
        let request = LeaderRequest { name: "election".into() };
        Ok(ElectionClient::new(self.channel.clone()).leader(request).await?.into_inner())
    }

    async fn proclaim(&self, leader: Option<LeaderKey>, value: &str) -> Result<(), Status> {
        let request = ProclaimRequest { leader, value: value.to_owned().into() };
        ElectionClient::new(self.channel.clone()).proclaim(request).await.map(|_| ())
    }

    async fn resign(&self, leader: Option<LeaderKey>) -> Result<(), Status> {
        ElectionClient::new(self.channel.clone()).resign(ResignRequest { leader }).await.map(|_| ())
    }

    /// It begins, in etcd, when there is somebody to be observed.
    fn observe(&self) -> Waiting<Streaming<LeaderResponse>> {
        let mut client = ElectionClient::new(self.channel.clone());
        tokio::spawn(async move { Ok(client.observe(LeaderRequest { name: "election".into() }).await?.into_inner()) })
    }
}

async fn done<T>(waiting: Waiting<T>) -> Result<Result<T, Status>> {
    Ok(tokio::time::timeout(LIMIT, waiting).await.context("it is still waiting")??)
}

async fn next(stream: &mut Streaming<LeaderResponse>) -> Result<String> {
    let response = tokio::time::timeout(LIMIT, stream.message()).await.context("nothing was observed")??;
    let kv = response.context("the observation has ended")?.kv.context("a leader")?;
    Ok(String::from_utf8(kv.value.to_vec())?)
}

/// A refusal with the code that all errors of these services have.
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, text: &str) -> Result<()> {
    let Err(status) = answer else { bail!("not refused with {text}: {answer:?}") };
    ensure!((status.code(), status.message()) == (Code::Unknown, text), "{status:?}, not: {text}");
    Ok(())
}

async fn the_lock_goes_from_one_to_the_next(program: Program) -> Result<()> {
    let store = Store::start(program).await?;
    for lease in 16..20 {
        store.grant(lease).await?;
    }
    let held = store.lock(16).await?;
    assert_eq!(held.key, "lock/10");
    assert_eq!(store.lock(16).await?.key, held.key, "who holds it asks again");
    let mut waiting = Vec::new();
    for (lease, count) in [(17, 2), (18, 3), (19, 4)] {
        waiting.push(store.lock_later(lease));
        store.stand_in_line("lock", count).await?;
    }
    let [second, third, fourth] = <[_; 3]>::try_from(waiting).map_err(|_| anyhow::anyhow!("three wait"))?;

    // Who goes away in the middle holds up nobody.
    third.abort();
    store.stand_in_line("lock", 3).await?;
    assert!(!second.is_finished() && !fourth.is_finished(), "two have the lock");
    store.unlock("lock/10").await?;
    let second = done(second).await??;
    assert_eq!(second.key, "lock/11");
    let header = second.header.context("header")?;
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0, "{header:?}");
    assert!(!fourth.is_finished(), "two have the lock");
    // The end of a lease is the end of the lock.
    store.revoke(17).await?;
    assert_eq!(done(fourth).await??.key, "lock/13");
    store.unlock("lock/13").await?;
    store.unlock("lock/13").await?;
    refused(store.unlock("").await, "etcdserver: key is not provided")?;
    refused(store.lock(12345).await, "etcdserver: requested lease not found")
}

async fn a_lock_is_not_given_to_a_lease_that_is_gone(program: Program) -> Result<()> {
    let store = Store::start(program).await?;
    store.grant(16).await?;
    store.grant(17).await?;
    store.lock(16).await?;
    let waiting = store.lock_later(17);
    store.stand_in_line("lock", 2).await?;
    store.revoke(17).await?;
    store.stand_in_line("lock", 1).await?;
    store.unlock("lock/10").await?;
    refused(done(waiting).await?, "mutex: session is expired")
}

async fn who_has_no_lease_is_given_one(program: Program) -> Result<()> {
    let store = Store::start(program).await?;
    let held = store.lock(0).await?;
    let kv = store.keys("lock/").await?.pop().context("the key of the lock")?;
    ensure!(kv.key == held.key && kv.lease != 0, "{kv:?}");
    ensure!(kv.key == format!("lock/{:x}", kv.lease), "{kv:?}");
    let asked = LeaseTimeToLiveRequest { id: kv.lease, keys: false };
    let lease = LeaseClient::new(store.channel.clone()).lease_time_to_live(asked).await?.into_inner();
    assert_eq!(lease.granted_ttl, 60);
    Ok(())
}

async fn leaders_follow_each_other_and_are_observed(program: Program) -> Result<()> {
    let store = Store::start(program).await?;
    store.grant(16).await?;
    store.grant(17).await?;
    refused(store.leader().await, "election: no leader")?;
    refused(store.proclaim(None, "x").await, "\"leader\" field must be provided")?;
    refused(store.resign(None).await, "\"leader\" field must be provided")?;
    let early = store.observe();

    let first = done(store.campaign(16, "a")).await??;
    let key = first.leader.context("the leader's key")?;
    assert_eq!((&key.name[..], &key.key[..], key.lease), (&b"election"[..], &b"election/10"[..], 16));
    let leader = store.leader().await?.kv.context("a leader")?;
    assert_eq!((&leader.value[..], leader.create_revision), (&b"a"[..], key.rev));
    let mut seen = vec![done(early).await??, done(store.observe()).await??];
    for observer in &mut seen {
        assert_eq!(next(observer).await?, "a");
    }
    // Who campaigns again says something else.
    let again = done(store.campaign(16, "b")).await??.leader.context("the leader's key")?;
    assert_eq!((again.rev, &again.key), (key.rev, &key.key));
    store.proclaim(Some(key.clone()), "c").await?;
    let second = store.campaign(17, "d");
    store.stand_in_line("election", 2).await?;
    store.proclaim(Some(key.clone()), "e").await?;
    assert!(!second.is_finished(), "two lead");
    store.resign(Some(key.clone())).await?;
    let second = done(second).await??.leader.context("the leader's key")?;
    assert_eq!(&second.key[..], b"election/11");
    for observer in &mut seen {
        for value in ["b", "c", "e", "d"] {
            assert_eq!(next(observer).await?, value);
        }
    }
    refused(store.proclaim(Some(key.clone()), "too late").await, "election: not leader")?;
    // Who does not lead resigns in vain, and leaves the one who does alone.
    store.resign(Some(key)).await?;
    assert_eq!(store.leader().await?.kv.context("a leader")?.value, "d");
    store.resign(Some(second)).await?;
    refused(store.leader().await, "election: no leader")
}

async fn a_candidate_that_goes_away_leaves_the_line(program: Program) -> Result<()> {
    let store = Store::start(program).await?;
    store.grant(16).await?;
    store.grant(17).await?;
    done(store.campaign(16, "a")).await??;
    let mut client = ElectionClient::new(store.channel.clone());
    let mut request = Request::new(CampaignRequest { name: "election".into(), lease: 17, value: "b".into() });
    request.set_timeout(Duration::from_millis(500));
    let status = client.campaign(request).await.err().context("elected beside another")?;
    ensure!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    store.stand_in_line("election", 1).await?;
    let campaigning = store.campaign(17, "b");
    store.stand_in_line("election", 2).await?;
    campaigning.abort();
    store.stand_in_line("election", 1).await
}

macro_rules! beside_etcd {
    ($($name:ident $scenario:ident;)*) => {
        $(
            #[tokio::test]
            async fn $name() -> Result<()> {
                $scenario(Program::Etcd).await.context("etcd")?;
                $scenario(Program::under_test()?).await.context("the server under test")
            }
        )*
    };
}

beside_etcd! {
    a_lock_goes_from_one_to_the_next the_lock_goes_from_one_to_the_next;
    a_lease_that_ended_while_its_owner_waited_holds_no_lock a_lock_is_not_given_to_a_lease_that_is_gone;
    a_lock_without_a_lease_has_one_of_its_own who_has_no_lease_is_given_one;
    one_leader_follows_another_and_observers_hear_of_all leaders_follow_each_other_and_are_observed;
    a_candidate_that_goes_away_is_not_waited_for a_candidate_that_goes_away_leaves_the_line;
}

fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().expect("it is plain text"));
    request
}

#[tokio::test]
async fn who_waits_and_wants_a_leader_hears_that_there_is_none() -> Result<()> {
    if Program::under_test()? == Program::Etcd {
        // There, locks wait on, and whether observers are told or only let go is a matter of luck.
        return Ok(());
    }
    let mut cluster = Cluster::start(Program::under_test()?, 3, &[]).await?;
    let leader = cluster.leader(&[0, 1, 2]).await?;
    let left = (leader + 1) % 3;
    let channel = cluster.members[left].channel().await?;
    let mut locks = LockClient::new(channel.clone());
    locks.lock(LockRequest { name: "lock".into(), lease: 0 }).await?;
    let mut elections = ElectionClient::new(channel.clone());
    elections.campaign(CampaignRequest { name: "election".into(), lease: 0, value: "a".into() }).await?;
    let mut observed = elections.observe(with_leader(LeaderRequest { name: "election".into() })).await?.into_inner();
    assert_eq!(next(&mut observed).await?, "a");
    let waiting: Waiting<LockResponse> =
        tokio::spawn(
            async move { Ok(locks.lock(with_leader(LockRequest { name: "lock".into(), lease: 0 })).await?.into_inner()) },
        );
    let mut kv = KvClient::new(channel);
    wait::until("somebody waits", LIMIT, async || {
        let range = RangeRequest { key: "lock/".into(), range_end: "lock0".into(), ..Default::default() };
        Ok(kv.range(range).await?.into_inner().count == 2)
    })
    .await?;
    for number in (0..3).filter(|n| *n != left) {
        cluster.members[number].kill();
    }
    let no_leader = |status: &Status| (status.code(), status.message()) == (Code::Unavailable, "etcdserver: no leader");
    let status = done(waiting).await?.err().context("a lock without a leader")?;
    ensure!(no_leader(&status), "{status:?}");
    let end = tokio::time::timeout(LIMIT, observed.message()).await.context("the observation does not end")?;
    ensure!(end.as_ref().is_err_and(no_leader), "{end:?}");
    Ok(())
}
