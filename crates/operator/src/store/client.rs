//! One member, spoken to directly.

use std::time::Duration;

use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::{
    Member as Listed, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest,
    StatusRequest, StatusResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::Certificates;
use crate::plan::ids::{ClusterId, MemberId};

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// For questions.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// For changes, which a quorum has to write down.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the address {0} is not usable: {1}")]
    Address(String, tonic::transport::Error),
    #[error("the store refused: {}", .0.message())]
    Refused(tonic::Status),
    #[error("no answer: {}", .0.message())]
    Silent(tonic::Status),
}

impl From<tonic::Status> for StoreError {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => StoreError::Silent(status),
            _ => StoreError::Refused(status),
        }
    }
}

/// Where one member is and how it is reached. TLS goes on over a new connection where it was on the one before.
pub struct Address(Endpoint);

/// A connection to one member; made when it is first used, and again when it breaks.
#[derive(Clone)]
pub struct Member {
    channel: Channel,
}

impl Address {
    /// `ip` is where the pod is now, `host` the name its certificate must have.
    pub fn new(ip: &str, port: i32, host: &str, certificates: Option<&Certificates>) -> Result<Self, StoreError> {
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_string() };
        let url = format!("{}://{ip}:{port}", if certificates.is_some() { "https" } else { "http" });
        let wrong = |error| StoreError::Address(url.clone(), error);
        let mut endpoint = Endpoint::from_shared(url.clone()).map_err(wrong)?.connect_timeout(CONNECT_LIMIT);
        if let Some(certificates) = certificates {
            endpoint = endpoint.tls_config(certificates.config(host)).map_err(wrong)?;
        }
        Ok(Self(endpoint))
    }

    pub fn connect(&self) -> Member {
        Member { channel: self.0.connect_lazy() }
    }
}

impl Member {
    pub async fn status(&self) -> Result<StatusResponse, StoreError> {
        let request = limited(StatusRequest::default(), ASK_LIMIT);
        Ok(MaintenanceClient::new(self.channel.clone()).status(request).await?.into_inner())
    }

    /// The membership, confirmed by a quorum.
    pub async fn list(&self) -> Result<(ClusterId, Vec<Listed>), StoreError> {
        let request = limited(MemberListRequest { linearizable: true }, ASK_LIMIT);
        let response = self.cluster().member_list(request).await?.into_inner();
        let cluster_id = ClusterId(response.header.map(|header| header.cluster_id).unwrap_or_default());
        Ok((cluster_id, response.members))
    }

    pub async fn add_learner(&self, peer_url: String) -> Result<(), StoreError> {
        let request = limited(MemberAddRequest { peer_ur_ls: vec![peer_url], is_learner: true }, CHANGE_LIMIT);
        self.cluster().member_add(request).await?;
        Ok(())
    }

    pub async fn promote(&self, id: MemberId) -> Result<(), StoreError> {
        self.cluster().member_promote(limited(MemberPromoteRequest { id: id.0 }, CHANGE_LIMIT)).await?;
        Ok(())
    }

    pub async fn remove(&self, id: MemberId) -> Result<(), StoreError> {
        self.cluster().member_remove(limited(MemberRemoveRequest { id: id.0 }, CHANGE_LIMIT)).await?;
        Ok(())
    }

    /// Only the leader itself can hand over.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), StoreError> {
        let request = limited(MoveLeaderRequest { target_id: to.0 }, CHANGE_LIMIT);
        MaintenanceClient::new(self.channel.clone()).move_leader(request).await?;
        Ok(())
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }
}

fn limited<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}
