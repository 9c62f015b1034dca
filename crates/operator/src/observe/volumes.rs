//! What a volume claim and the volume behind it say, in the planner's words.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use super::nodes::{gone, only_node};
use super::snapshot::Snapshot;
use crate::api::annotation;
use crate::plan::{Volume, VolumeState};

/// `since`: since when the node was gone at the last look, if it was.
pub fn seen(claim: &PersistentVolumeClaim, snapshot: &Snapshot, since: Option<Timestamp>, now: Timestamp) -> Volume {
    let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()).and_then(|name| snapshot.volumes.get(name));
    let id = |key: &str| claim.annotations().get(key).map(String::as_str);
    Volume {
        uid: claim.uid().unwrap_or_default(),
        token: id(annotation::CLUSTER_TOKEN).map(str::to_string),
        member_id: id(annotation::MEMBER_ID).and_then(|id| id.parse().ok()),
        cluster_id: id(annotation::CLUSTER_ID).and_then(|id| id.parse().ok()),
        version: id(annotation::WRITTEN_BY).map(str::to_string),
        state: state(claim, bound, snapshot, since, now),
        kept: bound.and_then(|volume| Some(volume.spec.as_ref()?.persistent_volume_reclaim_policy.as_deref()? == "Retain")),
        trouble: snapshot.unbound.get(&claim.name_any()).cloned(),
    }
}

fn state(
    claim: &PersistentVolumeClaim,
    bound: Option<&PersistentVolume>,
    snapshot: &Snapshot,
    since: Option<Timestamp>,
    now: Timestamp,
) -> VolumeState {
    if claim.metadata.deletion_timestamp.is_some() {
        return VolumeState::Deleting;
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        return VolumeState::Lost;
    }
    let node = bound.and_then(only_node);
    match (node, &snapshot.nodes) {
        (Some(node), Some(nodes)) if gone(&node, nodes) => VolumeState::Unreachable(since.unwrap_or(now)),
        _ => VolumeState::Intact,
    }
}
