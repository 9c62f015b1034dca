//! Servers that ask for users, and clients that are somebody.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use keelson_api::authpb::permission::Type;
use keelson_api::authpb::{Permission, UserAddOptions};
use keelson_api::etcdserverpb::auth_client::AuthClient;
use keelson_api::etcdserverpb::cluster_client::ClusterClient;
use keelson_api::etcdserverpb::kv_client::KvClient;
use keelson_api::etcdserverpb::lease_client::LeaseClient;
use keelson_api::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_api::etcdserverpb::watch_client::WatchClient;
use keelson_api::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest, AuthUserGrantRoleRequest,
    AuthenticateRequest, PutRequest, RangeRequest, RangeResponse,
};
use keelson_api::v3electionpb::election_client::ElectionClient;
use keelson_api::v3lockpb::lock_client::LockClient;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Longest that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(40);
/// Longest that one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Everybody's password.
pub const PASSWORD: &str = "a secret";
/// Passwords are to be compared quickly here.
pub const FLAGS: &[&str] = &["--bcrypt-cost=4", "--log-level=warn"];

/// What is compared, and what it is compared with.
pub fn both() -> Result<[Program; 2]> {
    Ok([Program::Etcd, Program::under_test()?])
}

/// A connection, and the token that is sent with each call; nobody's without one.
#[derive(Clone)]
pub struct Caller {
    channel: Channel,
    token: Option<String>,
}

impl Caller {
    pub async fn nobody(server: &Server) -> Result<Self> {
        Ok(Self { channel: server.channel().await?, token: None })
    }

    /// Somebody who has signed in.
    pub async fn named(server: &Server, name: &str) -> Result<Self> {
        Self::nobody(server).await?.signed_in(name, PASSWORD).await.with_context(|| format!("signing in as {name}"))
    }

    pub async fn signed_in(&self, name: &str, password: &str) -> Result<Self, Status> {
        let request = AuthenticateRequest { name: name.into(), password: password.into() };
        let token = self.auth().authenticate(request).await?.into_inner().token;
        Ok(self.with(&token))
    }

    /// The same connection with this token.
    pub fn with(&self, token: &str) -> Self {
        Self { channel: self.channel.clone(), token: Some(token.into()) }
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(CALL_LIMIT);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().expect("a token is plain text"));
        }
        request
    }

    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone())
    }

    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub fn locks(&self) -> LockClient<Channel> {
        LockClient::new(self.channel.clone())
    }

    pub fn elections(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel.clone())
    }

    pub async fn put(&self, key: &str) -> Result<(), Status> {
        let put = PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
        self.kv().put(self.ask(put)).await.map(|_| ())
    }

    pub async fn get(&self, key: &str) -> Result<RangeResponse, Status> {
        let range = RangeRequest { key: key.to_owned().into(), ..Default::default() };
        self.kv().range(self.ask(range)).await.map(Response::into_inner)
    }

    pub async fn add_user(&self, name: &str) -> Result<(), Status> {
        let options = Some(UserAddOptions { no_password: false });
        let request =
            AuthUserAddRequest { name: name.into(), password: PASSWORD.into(), options, hashed_password: String::new() };
        self.auth().user_add(self.ask(request)).await.map(|_| ())
    }

    pub async fn add_role(&self, name: &str) -> Result<(), Status> {
        self.auth().role_add(self.ask(AuthRoleAddRequest { name: name.into() })).await.map(|_| ())
    }

    pub async fn grant(&self, user: &str, role: &str) -> Result<(), Status> {
        let request = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        self.auth().user_grant_role(self.ask(request)).await.map(|_| ())
    }

    pub async fn permit(&self, role: &str, kind: Type, key: &str, range_end: &str) -> Result<(), Status> {
        let (key, range_end): (Bytes, Bytes) = (key.to_owned().into(), range_end.to_owned().into());
        let perm = Some(Permission { perm_type: kind.into(), key, range_end });
        let request = AuthRoleGrantPermissionRequest { name: role.into(), perm };
        self.auth().role_grant_permission(self.ask(request)).await.map(|_| ())
    }

    pub async fn enable(&self) -> Result<(), Status> {
        self.auth().auth_enable(self.ask(AuthEnableRequest {})).await.map(|_| ())
    }
}

/// Makes root and `ann`, who may read and write keys from `a` up to `c` and read `r`; and asks for users from then on.
/// Answers root.
pub async fn ask_for_users(server: &Server) -> Result<Caller> {
    let nobody = Caller::nobody(server).await?;
    for name in ["root", "ann"] {
        nobody.add_user(name).await?;
    }
    nobody.add_role("root").await?;
    nobody.grant("root", "root").await?;
    nobody.add_role("some").await?;
    nobody.permit("some", Type::Readwrite, "a", "c").await?;
    nobody.permit("some", Type::Read, "r", "").await?;
    nobody.grant("ann", "some").await?;
    nobody.enable().await?;
    Caller::named(server, "root").await
}

/// What a refusal says.
pub fn said<T>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(_) => "accepted".to_owned(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}
