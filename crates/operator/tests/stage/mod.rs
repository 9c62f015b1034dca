//! A stage for the operator: a real kube-apiserver that stores in Keelson, and everything of a cluster that is not the
//! operator played by the test: nodes, scheduler, kubelet, provisioner, garbage collector. Members are real processes.

mod housekeeping;
mod kubelet;
mod network;
mod operator;

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use keelson_e2e::kubernetes::apiserver::ApiServer;
use keelson_e2e::program::Program;
use keelson_e2e::server::Server;
use keelson_e2e::wait;
use keelson_operator::api::{EtcdCluster, EtcdMember, condition};
use kube::api::{Api, Patch, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, CustomResourceExt, ResourceExt};
use serde_json::json;

pub use kubelet::Kubelet;
pub use network::Network;
pub use operator::{ACCOUNT, Manner, Operator, RIGHTS};

pub const NAMESPACE: &str = "stage";
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at what costs a request or more.
pub const LOOK: Duration = Duration::from_millis(200);

pub struct Stage {
    pub client: Client,
    pub kubelet: Kubelet,
    // Dropped in this order: what uses the API server first.
    apiserver: ApiServer,
    _store: Server,
}

impl Stage {
    /// `members`: the program that runs as members.
    pub async fn set(members: Program) -> Result<Self> {
        let program = members.path()?;
        Self::build(|client, network| Kubelet::start(client, network, program)).await
    }

    /// Where pods are made to run by the test.
    pub async fn without_kubelet() -> Result<Self> {
        Self::build(|_, network| Kubelet::absent(network)).await
    }

    async fn build(kubelet: impl FnOnce(Client, Network) -> Kubelet) -> Result<Self> {
        let store = Server::start(Program::under_test()?, &[]).await?;
        let apiserver = ApiServer::start(&store.client_url()).await?;
        let client = client(&apiserver).await?;
        for crd in [EtcdCluster::crd(), EtcdMember::crd()] {
            Api::all(client.clone()).create(&PostParams::default(), &crd).await.context("creating the definition")?;
        }
        let crds = Api::<CustomResourceDefinition>::all(client.clone());
        wait::until("the definitions are served", LIMIT, async || {
            let mut served = 0;
            for crd in crds.list(&Default::default()).await?.items {
                let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
                served += usize::from(conditions.iter().any(|c| c.type_ == "Established" && c.status == "True"));
            }
            Ok(served == 2)
        })
        .await?;
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        // Its admission wants it; the controller that makes it is not on stage.
        let account: ServiceAccount = serde_json::from_value(json!({ "metadata": { "name": "default" } }))?;
        Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &account).await?;
        for name in ["node-1", "node-2", "node-3"] {
            let node: Node = serde_json::from_value(json!({
                "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
                "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
            }))?;
            let nodes = Api::<Node>::all(client.clone());
            nodes.create(&PostParams::default(), &node).await?;
            // Admission taints every new node until a controller, which is not on stage, finds it ready.
            nodes.patch(name, &Default::default(), &Patch::Merge(json!({ "spec": { "taints": null } }))).await?;
        }
        let kubelet = kubelet(client.clone(), Network::new()?);
        Ok(Self { client, kubelet, apiserver, _store: store })
    }

    /// The operator, with the rights its service account has by the chart.
    pub async fn operator(&self) -> Result<Operator> {
        self.operator_that(Manner::default()).await
    }

    /// The same, in another manner.
    pub async fn operator_that(&self, manner: Manner) -> Result<Operator> {
        Operator::start(&self.apiserver, self.client.clone(), manner).await
    }

    /// The API server itself.
    pub fn api_server(&self) -> &keelson_e2e::kubernetes::client::Client {
        self.apiserver.client()
    }

    /// Ends the API server as a crash does.
    pub fn api_server_goes(&mut self) {
        self.apiserver.goes();
    }

    pub async fn api_server_returns(&mut self) -> Result<()> {
        self.apiserver.returns().await
    }

    /// Waits until a condition has this reason and speaks of `what`, and an Event has told of that, too.
    pub async fn complains(&self, name: &str, type_: &str, reason: &str, event: &str, what: &str) -> Result<()> {
        let mut last = None;
        let waited = wait::until_every(LOOK, &format!("{name} is {type_} for {reason}"), LIMIT, async || {
            let status = self.clusters().get(name).await?.status.unwrap_or_default();
            let complains = status.conditions.iter().any(|c| c.type_ == type_ && c.reason == reason && c.message.contains(what));
            last = Some(status);
            Ok(complains && self.kubelet.has_told(event, what))
        })
        .await;
        waited.with_context(|| format!("{last:#?}\n{}", self.kubelet.story()))
    }

    pub fn clusters(&self) -> Api<EtcdCluster> {
        self.api()
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub async fn create(&self, name: &str, spec: serde_json::Value) -> Result<EtcdCluster> {
        let cluster =
            json!({ "apiVersion": "keelson.dev/v1alpha1", "kind": "EtcdCluster", "metadata": { "name": name }, "spec": spec });
        Ok(self.clusters().create(&PostParams::default(), &serde_json::from_value(cluster)?).await?)
    }

    pub async fn edit(&self, name: &str, spec: serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.clusters().patch(name, &Default::default(), &patch).await?;
        Ok(())
    }

    /// Waits until nothing is left to do for the spec as it is now, with as many healthy voters as it asks for.
    pub async fn settled(&self, name: &str) -> Result<EtcdCluster> {
        let mut last = None;
        let waited = wait::until_every(LOOK, &format!("{name} settles"), LIMIT, async || {
            let cluster = self.clusters().get(name).await?;
            let settled = is_settled(&cluster);
            last = Some(cluster);
            Ok(settled)
        })
        .await;
        let last = last.context("looked at least once")?;
        waited.with_context(|| format!("{:#?}\n{}", last.status, self.kubelet.story()))?;
        Ok(last)
    }
}

pub fn is_settled(cluster: &EtcdCluster) -> bool {
    let Some(status) = &cluster.status else {
        return false;
    };
    let available = status.conditions.iter().any(|c| c.type_ == condition::AVAILABLE && c.status == "True");
    let current = status.observed_generation == cluster.metadata.generation
        && status.target.as_ref().is_some_and(|target| Some(target.generation) == cluster.metadata.generation);
    let healthy =
        status.quorum.is_some_and(|quorum| quorum.healthy == cluster.spec.replicas && quorum.voters == cluster.spec.replicas);
    available && current && healthy && status.operation.is_none() && cluster.metadata.deletion_timestamp.is_none()
}

async fn client(apiserver: &ApiServer) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(apiserver.kubeconfig(None)?)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The names of a cluster's members, in order.
pub fn members(cluster: &EtcdCluster) -> Vec<String> {
    let status = cluster.status.clone().unwrap_or_default();
    let mut names: Vec<_> = status.members.into_iter().map(|member| member.name).collect();
    names.sort();
    assert!(names.iter().all(|name| name.starts_with(&cluster.name_any())));
    names
}
