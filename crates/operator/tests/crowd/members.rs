//! Members that only talk: each store is a few numbers in memory, each member an address that answers for it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use keelson_api::etcdserverpb::cluster_server::{Cluster, ClusterServer};
use keelson_api::etcdserverpb::maintenance_server::{Maintenance, MaintenanceServer};
use keelson_api::etcdserverpb::*;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, async_trait};

/// What every member of a store knows.
#[derive(Default)]
pub struct Store {
    id: u64,
    members: Vec<Member>,
}

/// All stores, by the name of their cluster.
#[derive(Clone, Default)]
pub struct Stores(Arc<Mutex<HashMap<String, Store>>>);

/// A member's process.
pub struct Process(JoinHandle<()>);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stores {
    /// Starts a member at `ip`. With `founds` its store begins with it.
    pub async fn start(&self, cluster: &str, name: &str, url: &str, ip: Ipv4Addr, founds: bool) -> Result<Process> {
        let id = self.join(cluster, name, url, founds).context("a member that nobody has added")?;
        let word = Word { stores: self.clone(), cluster: cluster.to_string(), id };
        let incoming = TcpIncoming::from(TcpListener::bind((ip, 2379)).await?);
        let server = Server::builder().add_service(ClusterServer::new(word.clone())).add_service(MaintenanceServer::new(word));
        let serving = tokio::spawn(async move {
            // It ends with the test.
            let _ = server.serve_with_incoming(incoming).await;
        });
        Ok(Process(serving))
    }

    fn join(&self, cluster: &str, name: &str, url: &str, founds: bool) -> Option<u64> {
        let mut stores = self.0.lock();
        let next = stores.len() as u64 + 1;
        let store = stores.entry(cluster.to_string()).or_default();
        if founds && store.members.is_empty() {
            store.id = 0xc000 + next;
            store.members.push(Member { id: 1, peer_ur_ls: vec![url.to_string()], ..Member::default() });
        }
        let member = store.members.iter_mut().find(|member| member.peer_ur_ls == [url])?;
        member.name = name.to_string();
        Some(member.id)
    }
}

/// One member's word.
#[derive(Clone)]
struct Word {
    stores: Stores,
    cluster: String,
    id: u64,
}

impl Word {
    fn with<T>(&self, read: impl FnOnce(&mut Store) -> T) -> T {
        read(self.stores.0.lock().entry(self.cluster.clone()).or_default())
    }

    fn header(&self) -> Option<ResponseHeader> {
        let cluster_id = self.with(|store| store.id);
        Some(ResponseHeader { cluster_id, member_id: self.id, ..ResponseHeader::default() })
    }
}

fn not_played<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("members of this stage only say who they are"))
}

#[async_trait]
impl Cluster for Word {
    async fn member_add(&self, request: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        let MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let added = self.with(|store| {
            let id = store.members.iter().map(|member| member.id).max().unwrap_or_default() + 1;
            let added = Member { id, peer_ur_ls, is_learner, ..Member::default() };
            store.members.push(added.clone());
            added
        });
        Ok(Response::new(MemberAddResponse { header: self.header(), member: Some(added), ..MemberAddResponse::default() }))
    }

    async fn member_promote(&self, request: Request<MemberPromoteRequest>) -> Result<Response<MemberPromoteResponse>, Status> {
        let id = request.into_inner().id;
        self.with(|store| store.members.iter_mut().filter(|member| member.id == id).for_each(|member| member.is_learner = false));
        Ok(Response::new(MemberPromoteResponse { header: self.header(), ..MemberPromoteResponse::default() }))
    }

    async fn member_list(&self, _: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        let members = self.with(|store| store.members.clone());
        Ok(Response::new(MemberListResponse { header: self.header(), members }))
    }

    async fn member_remove(&self, _: Request<MemberRemoveRequest>) -> Result<Response<MemberRemoveResponse>, Status> {
        not_played()
    }

    async fn member_update(&self, _: Request<MemberUpdateRequest>) -> Result<Response<MemberUpdateResponse>, Status> {
        not_played()
    }
}

#[async_trait]
impl Maintenance for Word {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let (leader, is_learner) = self.with(|store| {
            let leader = store.members.first().map_or(0, |member| member.id);
            (leader, store.members.iter().any(|member| member.id == self.id && member.is_learner))
        });
        Ok(Response::new(StatusResponse {
            header: self.header(),
            version: "3.7.3".into(),
            leader,
            is_learner,
            raft_index: 100,
            raft_applied_index: 100,
            raft_term: 2,
            ..StatusResponse::default()
        }))
    }

    async fn alarm(&self, _: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        not_played()
    }

    async fn defragment(&self, _: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        not_played()
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        not_played()
    }

    async fn hash_kv(&self, _: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        not_played()
    }

    type SnapshotStream = futures::stream::Empty<Result<SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        not_played()
    }

    async fn move_leader(&self, _: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        not_played()
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        not_played()
    }
}
