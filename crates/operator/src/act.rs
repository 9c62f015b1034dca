//! Does the one action that was decided on.
//!
//! Deletes and patches name the UID that was seen, so that an object which came back under the same name is not hit;
//! creations fail if there is something already. Whatever fails half-way is seen at the next look and gone on from.

use std::collections::BTreeMap;
use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{EtcdCluster, EtcdMember, EtcdMemberStatus, FIELD_OWNER, FINALIZER, Leaf, Target, annotation, label};
use crate::observe::{Snapshot, belongs, requests};
use crate::pki::Desk;
use crate::plan::ids::MemberId;
use crate::plan::{Action, Record, Surrounding};
use crate::render::{self, Family, Scheme};
use crate::store::{Answers, Member, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} changed meanwhile")]
    Changed(String),
    #[error("{0}")]
    Certificate(String),
    #[error(
        "there is no kind Certificate of cert-manager.io/v1 in this Kubernetes: install cert-manager, or create another cluster \
         with tls.client.auto and tls.peer.auto"
    )]
    NoCertManager,
}

/// What an action is done with.
pub struct Hands<'a> {
    pub client: &'a Client,
    pub snapshot: &'a Snapshot,
    pub answers: &'a Answers,
    pub members: &'a BTreeMap<String, Member>,
    /// The target in force.
    pub target: &'a Target,
}

impl Hands<'_> {
    pub async fn act(&self, action: &Action) -> Result<(), ActError> {
        let cluster = &self.snapshot.cluster;
        match action {
            Action::Apply(surrounding) => self.surround(*surrounding).await,
            Action::Issue { leaf } => {
                let tls = cluster.spec.tls.clone().unwrap_or_default();
                let secret = self.desk().issued(&tls, *leaf).map_err(ActError::Certificate)?;
                self.write(secret, self.snapshot.papers.held.leaves.get(leaf)).await
            }
            Action::Turn { side, turn } => {
                let secret = self.desk().turned(*side, *turn).map_err(ActError::Certificate)?;
                self.write(secret, self.snapshot.papers.held.authorities.get(side)).await
            }
            Action::SetFinalizer(present) => self.set_finalizer(*present).await,
            Action::CreateMember { name, token, origin } => self.create(&render::member(cluster, name, token, *origin)).await,
            Action::CreateVolume { name } => self.create(&render::claim(self.member(name)?, &cluster.spec.storage)).await,
            Action::Record { name, record } => self.record(name, record).await,
            Action::CreatePod { name, start } => {
                let family = Family::of(self.snapshot.peer_service.as_ref());
                let made = render::pod(self.member(name)?, self.target, *start, &self.snapshot.names, family);
                self.create(&made.pod).await
            }
            Action::DeletePod { name } => self.delete(self.snapshot.pod(name)).await,
            Action::DeleteVolume { name } => self.delete_volume(name).await,
            Action::DeleteMember { name } => self.delete(self.snapshot.member(name)).await,
            Action::KeepVolume { name } => self.reclaim(name, true).await,
            Action::Count { name, counted } => self.count(name, *counted).await,
            Action::SetBudget { min_available } => self.apply(&render::budget(cluster, *min_available)).await,
            Action::DeleteBudget => self.delete(self.snapshot.budget.as_ref()).await,
            Action::AddLearner { name } => {
                let scheme = Scheme::of(cluster.spec.tls.as_ref().is_some_and(|tls| tls.peer.is_some()));
                let url = self.snapshot.names.peer_url(name, scheme);
                Ok(self.leader()?.add_learner(url).await?)
            }
            Action::Promote { id, .. } => Ok(self.leader()?.promote(*id).await?),
            Action::RemoveMember { id } => Ok(self.leader()?.remove(*id).await?),
            Action::MoveLeader { from, to } => Ok(self.of_id(*from)?.move_leader(*to).await?),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.snapshot.names.namespace)
    }

    async fn create<K>(&self, object: &K) -> Result<(), ActError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let parameters = PostParams { field_manager: Some(FIELD_OWNER.into()), ..PostParams::default() };
        self.api::<K>().create(&parameters, object).await?;
        Ok(())
    }

    async fn apply<K>(&self, object: &K) -> Result<(), ActError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        // Only objects that are ours get here, so a conflict is somebody's edit of what the spec decides.
        let parameters = PatchParams::apply(FIELD_OWNER).force();
        self.api::<K>().patch(&object.name_any(), &parameters, &Patch::Apply(object)).await?;
        Ok(())
    }

    async fn delete<K>(&self, object: Option<&K>) -> Result<(), ActError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let Some(object) = object else {
            return Ok(());
        };
        let seen = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
        let gone = self.api::<K>().delete(&object.name_any(), &DeleteParams::background().preconditions(seen)).await;
        match gone {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => Ok(other.map(|_| ())?),
        }
    }

    async fn merge<K>(&self, name: &str, patch: Value) -> Result<(), ActError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let parameters = PatchParams { field_manager: Some(FIELD_OWNER.into()), ..PatchParams::default() };
        self.api::<K>().patch(name, &parameters, &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn surround(&self, surrounding: Surrounding) -> Result<(), ActError> {
        let (cluster, names) = (&self.snapshot.cluster, &self.snapshot.names);
        match surrounding {
            Surrounding::PeerService => self.apply::<Service>(&render::peer_service(cluster, names)).await,
            Surrounding::ClientService => self.apply::<Service>(&render::client_service(cluster, names)).await,
            Surrounding::Connection if !cluster.spec.connection_secret.enabled => {
                self.delete(self.snapshot.connection.as_ref().filter(|secret| belongs(cluster, *secret))).await
            }
            Surrounding::Connection => {
                let certificates = match &self.snapshot.certificates {
                    Some(Ok(certificates)) => certificates.0.clone(),
                    _ => BTreeMap::new(),
                };
                self.apply::<Secret>(&render::connection(cluster, names, certificates)).await
            }
            Surrounding::Certificate(leaf) => self.ask(leaf).await,
        }
    }

    /// Asks cert-manager for a certificate.
    async fn ask(&self, leaf: Leaf) -> Result<(), ActError> {
        let due = requests(self.snapshot).into_iter().find(|(due, _)| *due == leaf);
        let Some((_, request)) = due else {
            return Ok(());
        };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.snapshot.names.namespace, &render::requests());
        let parameters = PatchParams::apply(FIELD_OWNER).force();
        match api.patch(&request.name_any(), &parameters, &Patch::Apply(&request)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Err(ActError::NoCertManager),
            other => Ok(other.map(|_| ())?),
        }
    }

    fn desk(&self) -> Desk<'_> {
        let Snapshot { cluster, names, papers, .. } = self.snapshot;
        Desk { cluster, names, held: &papers.held, now: Timestamp::now() }
    }

    /// A Secret with a key in it, made from what was seen: whoever else wrote meanwhile is not overwritten.
    async fn write(&self, secret: Secret, seen: Option<&Secret>) -> Result<(), ActError> {
        let Some(seen) = seen else {
            return self.create(&secret).await;
        };
        // Every file that was there and is not wanted any more is named, whoever wrote it: a key must not stay behind.
        let mut files: BTreeMap<&String, Option<&ByteString>> =
            seen.data.iter().flatten().map(|(name, _)| (name, None)).collect();
        files.extend(secret.data.iter().flatten().map(|(name, contents)| (name, Some(contents))));
        let metadata = json!({
            "uid": seen.uid(),
            "resourceVersion": seen.resource_version(),
            "annotations": secret.metadata.annotations,
        });
        self.merge::<Secret>(&secret.name_any(), json!({ "metadata": metadata, "data": files })).await
    }

    async fn set_finalizer(&self, present: bool) -> Result<(), ActError> {
        let cluster = &self.snapshot.cluster;
        let mut finalizers: Vec<_> = cluster.finalizers().iter().filter(|name| *name != FINALIZER).cloned().collect();
        if present {
            finalizers.push(FINALIZER.into());
        }
        // With the version that was read: somebody else's finalizer must not get lost.
        let metadata = json!({ "finalizers": finalizers, "resourceVersion": cluster.resource_version() });
        self.merge::<EtcdCluster>(&cluster.name_any(), json!({ "metadata": metadata })).await
    }

    /// The volume first: it outlives the rest.
    async fn record(&self, name: &str, record: &Record) -> Result<(), ActError> {
        let member = self.member(name)?;
        let mut annotations: BTreeMap<&str, String> = BTreeMap::new();
        if let Some((id, cluster_id)) = record.identity {
            annotations.insert(annotation::CLUSTER_TOKEN, member.spec.cluster_token.clone());
            annotations.insert(annotation::MEMBER_ID, id.to_string());
            annotations.insert(annotation::CLUSTER_ID, cluster_id.to_string());
        }
        annotations.extend(record.version.iter().map(|version| (annotation::WRITTEN_BY, version.clone())));
        if let Some(claim) = self.snapshot.claim(name).filter(|_| !annotations.is_empty()) {
            let patch = json!({ "metadata": { "uid": claim.uid(), "annotations": annotations } });
            self.merge::<PersistentVolumeClaim>(name, patch).await?;
        }
        if record.identity.is_none() && record.volume_uid.is_none() && record.initial_cluster.is_none() {
            return Ok(());
        }
        let status = EtcdMemberStatus {
            id: record.identity.map(|(id, _)| id.to_string()),
            cluster_id: record.identity.map(|(_, cluster_id)| cluster_id.to_string()),
            volume_uid: record.volume_uid.clone(),
            initial_cluster: record.initial_cluster.clone(),
        };
        let patch = json!({ "metadata": { "uid": member.uid() }, "status": status });
        let parameters = PatchParams { field_manager: Some(FIELD_OWNER.into()), ..PatchParams::default() };
        self.api::<EtcdMember>().patch_status(name, &parameters, &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn count(&self, name: &str, counted: bool) -> Result<(), ActError> {
        let uid = self.snapshot.pod(name).and_then(|pod| pod.uid());
        let role = counted.then_some(label::ROLE_VOTER);
        self.merge::<Pod>(name, json!({ "metadata": { "uid": uid, "labels": { label::ROLE: role } } })).await
    }

    /// Sets the volume behind the claim to outlive it, or back to what it was before that.
    async fn reclaim(&self, name: &str, keep: bool) -> Result<(), ActError> {
        let bound = self.snapshot.claim(name).and_then(|claim| claim.spec.as_ref()?.volume_name.clone());
        let Some(volume) = bound.and_then(|bound| self.snapshot.volumes.get(&bound)) else {
            return Ok(());
        };
        let now = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.clone());
        let before = volume.annotations().get(annotation::RECLAIM_POLICY);
        let (policy, note) = match (keep, before) {
            (true, _) => (Some("Retain".to_string()), now),
            (false, Some(before)) => (Some(before.clone()), None),
            (false, None) => return Ok(()),
        };
        let metadata = json!({ "uid": volume.uid(), "annotations": { annotation::RECLAIM_POLICY: note } });
        let patch = json!({ "metadata": metadata, "spec": { "persistentVolumeReclaimPolicy": policy } });
        let parameters = PatchParams { field_manager: Some(FIELD_OWNER.into()), ..PatchParams::default() };
        Api::<PersistentVolume>::all(self.client.clone()).patch(&volume.name_any(), &parameters, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// A volume that is not needed any more goes as its class would have it, not as `Retain` would.
    async fn delete_volume(&self, name: &str) -> Result<(), ActError> {
        self.reclaim(name, false).await?;
        self.delete(self.snapshot.claim(name)).await
    }

    fn member(&self, name: &str) -> Result<&EtcdMember, ActError> {
        self.snapshot.member(name).ok_or_else(|| ActError::Changed(format!("EtcdMember {name}")))
    }

    fn leader(&self) -> Result<&Member, ActError> {
        let leader = self.answers.leader().and_then(|name| self.members.get(name));
        leader.ok_or_else(|| ActError::Changed("the leader".into()))
    }

    fn of_id(&self, id: MemberId) -> Result<&Member, ActError> {
        let member = self.answers.name_of(id).and_then(|name| self.members.get(name));
        member.ok_or_else(|| ActError::Changed(format!("member {id}")))
    }
}
