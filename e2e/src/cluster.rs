//! Several servers that are one cluster.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{
    HashKvRequest, HashKvResponse, Member, MemberAddRequest, MemberListRequest, MemberRemoveRequest, PutRequest, RangeRequest,
    StatusRequest, StatusResponse,
};
use tonic::Request;

use crate::chaos::network::Network;
use crate::pki::Pki;
use crate::ports::Reservation;
use crate::program::Program;
use crate::server::Server;
use crate::wait;

/// Longest that one question to a member may take.
const CALL_LIMIT: Duration = Duration::from_secs(8);
/// Longest that members may take to agree on something.
const AGREE_LIMIT: Duration = Duration::from_secs(30);

/// Members by the order in which they came.
pub struct Cluster {
    program: Program,
    flags: Vec<String>,
    pki: Option<Arc<Pki>>,
    pub members: Vec<Server>,
    /// How many names were given; none is given twice.
    names: usize,
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

/// A change of members, tried again while the members have not been connected for long enough: etcd, too, wants five
/// seconds of that.
async fn when_healthy<T>(mut change: impl AsyncFnMut() -> Result<tonic::Response<T>, tonic::Status>) -> Result<T> {
    let mut done = None;
    wait::until("the members count as healthy", AGREE_LIMIT, async || match change().await {
        Ok(answer) => {
            done = Some(answer.into_inner());
            Ok(true)
        }
        Err(e) if e.message() == "etcdserver: unhealthy cluster" => Ok(false),
        Err(e) => Err(e.into()),
    })
    .await?;
    done.context("the change was answered")
}

impl Cluster {
    /// Starts so many members and waits until all of them answer.
    pub async fn start(program: Program, size: usize, flags: &[&str]) -> Result<Self> {
        Self::start_with(program, size, flags, None).await
    }

    /// The same; members with certificates speak https to clients and to each other.
    pub async fn start_with(program: Program, size: usize, flags: &[&str], pki: Option<Arc<Pki>>) -> Result<Self> {
        Self::start_prepared(program, size, flags, pki, |_| {}).await
    }

    /// The same, with members that were changed before they start.
    pub async fn start_prepared(
        program: Program,
        size: usize,
        flags: &[&str],
        pki: Option<Arc<Pki>>,
        change: impl Fn(&mut Server),
    ) -> Result<Self> {
        let mut cluster = Self::prepared(program, size, flags, pki)?;
        cluster.members.iter_mut().for_each(change);
        cluster.begin().await?;
        Ok(cluster)
    }

    /// So many members that are not started yet; [`Self::begin`] does that.
    pub fn prepared(program: Program, size: usize, flags: &[&str], pki: Option<Arc<Pki>>) -> Result<Self> {
        let flags = flags.iter().map(ToString::to_string).collect();
        let mut cluster = Self { program, flags, pki, members: Vec::new(), names: 0 };
        let reservations = (0..size).map(|_| Reservation::new()).collect::<Result<Vec<_>>>()?;
        for reservation in &reservations {
            cluster.prepare(reservation)?;
        }
        Ok(cluster)
    }

    /// Members in the namespaces of a network, one in each; they are not started yet.
    pub fn seated(program: Program, network: &Network, flags: &[&str]) -> Result<Self> {
        let names = network.seats().len();
        let mut cluster =
            Self { program, flags: flags.iter().map(ToString::to_string).collect(), pki: None, members: Vec::new(), names };
        for (number, seat) in network.seats().iter().enumerate() {
            let mut member = Server::member(program, &format!("m{number}"), seat.ports, flags)?;
            member.sit(seat);
            cluster.members.push(member);
        }
        Ok(cluster)
    }

    /// Starts the members that are there as a new cluster, and waits until all of them answer.
    pub async fn begin(&mut self) -> Result<()> {
        let named = self.named();
        for member in &mut self.members {
            member.set_cluster(named.clone(), false);
            member.spawn()?;
        }
        for member in &mut self.members {
            member.ready().await?;
        }
        Ok(())
    }

    fn prepare(&mut self, reservation: &Reservation) -> Result<()> {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let name = format!("m{}", self.names);
        self.names += 1;
        let mut member = Server::member(self.program, &name, reservation.ports()?, &flags)?;
        if let Some(pki) = &self.pki {
            member.secure(pki.clone());
        }
        self.members.push(member);
        Ok(())
    }

    /// The members as `--initial-cluster` has them.
    pub fn named(&self) -> String {
        let named: Vec<String> = self.members.iter().map(|m| format!("{}={}", m.name(), m.peer_url())).collect();
        named.join(",")
    }

    /// Adds a member through member `by`; it is not started. Answers its number and id.
    pub async fn add(&mut self, by: usize, is_learner: bool) -> Result<(usize, u64)> {
        let reservation = Reservation::new()?;
        self.prepare(&reservation)?;
        let number = self.members.len() - 1;
        let request = MemberAddRequest { peer_ur_ls: vec![self.members[number].peer_url()], is_learner };
        let mut client = ClusterClient::new(self.members[by].channel().await?);
        let added = match when_healthy(async || client.member_add(limited(request.clone())).await).await {
            Ok(added) => added.member.context("an added member is in the answer")?,
            Err(e) => {
                self.members.pop();
                return Err(e);
            }
        };
        let named = self.named();
        self.members[number].set_cluster(named, true);
        drop(reservation);
        Ok((number, added.id))
    }

    /// Removes a member through member `by`.
    pub async fn remove(&self, by: usize, id: u64) -> Result<()> {
        let mut client = ClusterClient::new(self.members[by].channel().await?);
        when_healthy(async || client.member_remove(limited(MemberRemoveRequest { id })).await).await.map(|_| ())
    }

    /// Puts a new member without data in the place of one: on its addresses, under its name. Waits until it serves.
    pub async fn replace(&mut self, number: usize, by: usize) -> Result<()> {
        let id = self.id(number).await?;
        self.members[number].kill();
        self.remove(by, id).await?;
        std::fs::remove_dir_all(self.members[number].data_dir()).context("removing the data folder")?;
        let request = MemberAddRequest { peer_ur_ls: vec![self.members[number].peer_url()], is_learner: false };
        let mut client = ClusterClient::new(self.members[by].channel().await?);
        when_healthy(async || client.member_add(limited(request.clone())).await).await?;
        let named = self.named();
        let member = &mut self.members[number];
        member.set_cluster(named, true);
        member.spawn()?;
        member.ready().await
    }

    pub async fn status(&self, number: usize) -> Result<StatusResponse> {
        let mut client = MaintenanceClient::new(self.members[number].channel().await?);
        Ok(client.status(limited(StatusRequest {})).await?.into_inner())
    }

    pub async fn id(&self, number: usize) -> Result<u64> {
        Ok(self.status(number).await?.header.context("a status has a header")?.member_id)
    }

    pub async fn list(&self, number: usize) -> Result<Vec<Member>> {
        let mut client = ClusterClient::new(self.members[number].channel().await?);
        Ok(client.member_list(limited(MemberListRequest { linearizable: true })).await?.into_inner().members)
    }

    /// Number of the member that leads, once one of those asked says so of itself.
    pub async fn leader(&self, among: &[usize]) -> Result<usize> {
        let mut leader = None;
        wait::until("a member leads", AGREE_LIMIT, async || {
            for number in among {
                if let Ok(status) = self.status(*number).await
                    && status.leader != 0
                    && status.header.is_some_and(|h| h.member_id == status.leader)
                {
                    leader = Some(*number);
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await?;
        leader.context("a member leads")
    }

    pub async fn put(&self, number: usize, key: &str, value: &str) -> Result<i64> {
        let mut kv = KvClient::new(self.members[number].channel().await?);
        let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        Ok(kv.put(limited(put)).await?.into_inner().header.map_or(0, |h| h.revision))
    }

    pub async fn get(&self, number: usize, key: &str) -> Result<Option<String>> {
        let mut kv = KvClient::new(self.members[number].channel().await?);
        let range = RangeRequest { key: key.to_owned().into(), ..Default::default() };
        let found = kv.range(limited(range)).await?.into_inner().kvs.pop();
        Ok(found.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
    }

    /// Checksums of these members at `revision`, 0 for the newest.
    pub async fn hashes(&self, numbers: &[usize], revision: i64) -> Result<Vec<HashKvResponse>> {
        let mut hashes = Vec::new();
        for number in numbers {
            let mut client = MaintenanceClient::new(self.members[*number].channel().await?);
            hashes.push(client.hash_kv(limited(HashKvRequest { revision })).await?.into_inner());
        }
        Ok(hashes)
    }

    /// Waits until these members have the same data at the same revision.
    pub async fn agree(&self, numbers: &[usize]) -> Result<()> {
        wait::until("the members agree", AGREE_LIMIT, async || {
            let mut revisions = Vec::new();
            for number in numbers {
                revisions.push(self.status(*number).await?.header.map_or(0, |h| h.revision));
            }
            Ok(revisions.windows(2).all(|r| r[0] == r[1]))
        })
        .await?;
        let hashes = self.hashes(numbers, 0).await?;
        let hashes: Vec<_> = hashes.iter().map(|h| (h.hash, h.hash_revision, h.compact_revision)).collect();
        if hashes.windows(2).any(|h| h[0] != h[1]) {
            bail!("the members have different data: {hashes:?}");
        }
        Ok(())
    }
}
