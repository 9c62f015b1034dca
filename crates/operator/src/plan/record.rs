//! What must be remembered before the next step: ids from the store's list, the volume that was made for a member, and
//! that data outlives its claim.

use super::decision::{Action, Record, Step};
use super::view::View;
use super::world::{VolumeState, World};
use crate::api::OperationType::{Adopt, Bootstrap, Configure, ScaleUp};
use crate::api::{DeletionPolicy, Origin};

/// What a volume tells about its member: that it is the member's, and whose data it holds if it was in use before.
pub(super) fn recall(world: &World) -> Option<Step> {
    world.members.iter().find_map(|(name, member)| {
        let (object, volume) = (member.object.as_ref()?, member.volume.as_ref()?);
        let own = object.volume_uid.as_deref().is_none_or(|uid| uid == volume.uid);
        if !own || volume.state != VolumeState::Intact {
            return None;
        }
        let identity = volume.member_id.zip(volume.cluster_id).filter(|_| object.id.is_none());
        let volume_uid = object.volume_uid.is_none().then(|| volume.uid.clone());
        if identity.is_none() && volume_uid.is_none() {
            return None;
        }
        let type_ = if object.origin == Origin::Adopted { Adopt } else { Configure };
        let action = Action::Record { name: name.clone(), record: Record { identity, volume_uid, ..Record::default() } };
        Some(Step::act(type_, Some(name), format!("Noting which volume is that of {name}"), action))
    })
}

/// Ids are taken from the store's list and nowhere else: an answer to an addition that got lost is found there too.
pub(super) fn record(view: &View) -> Option<Step> {
    let cluster_id = view.listed()?;
    view.seats.iter().find_map(|seat| {
        let member = seat.member?;
        let object = member.object.as_ref()?;
        let on_volume = member.volume.as_ref().is_none_or(|volume| volume.member_id.is_some() && volume.cluster_id.is_some());
        let identity = (object.id.is_none() || !on_volume).then_some((seat.listed.id, cluster_id));
        // What a member was told when it joined may be outdated by the time it first runs.
        let joining = seat.listed.learner && !seat.listed.started;
        let told = view.initial_cluster();
        let initial_cluster = (joining && object.initial_cluster.as_ref() != Some(&told)).then_some(told);
        if identity.is_none() && initial_cluster.is_none() {
            return None;
        }
        let record = Record { identity, initial_cluster, ..Record::default() };
        let (type_, name) = (if joining { ScaleUp } else { Bootstrap }, seat.name);
        let action = Action::Record { name: name.into(), record };
        Some(Step::act(type_, Some(name), format!("Noting what the store says of {name}"), action))
    })
}

/// Which version wrote a volume, once every member is of it and works: from then on the store may use what only that
/// version knows, and a cluster that is made from the volume again must not be of an older one.
pub(super) fn written_by(view: &View) -> Option<Step> {
    let version = &view.goal.version;
    view.voters().find_map(|seat| {
        let volume = seat.member?.volume.as_ref().filter(|volume| volume.state == VolumeState::Intact)?;
        if volume.version.as_ref() == Some(version) {
            return None;
        }
        let (name, record) = (seat.name, Record { version: Some(version.clone()), ..Record::default() });
        let why = format!("Noting on the volume of {name} that version {version} wrote it");
        Some(Step::act(Configure, Some(name), why, Action::Record { name: name.into(), record }))
    })
}

/// Under `deletionPolicy: Retain` not even a deleted namespace takes the data.
pub(super) fn keep(world: &World) -> Option<Step> {
    if world.cluster.deletion_policy == DeletionPolicy::Delete {
        return None;
    }
    // One that is being deleted is to go as its class would have it.
    let exposed = |member: &super::Member| {
        let volume = member.volume.as_ref().filter(|volume| volume.state == VolumeState::Intact);
        member.object.is_some() && volume.is_some_and(|volume| volume.kept == Some(false))
    };
    let (name, _) = world.members.iter().find(|(_, member)| exposed(member))?;
    let why = format!("Setting the volume of {name} to Retain, as deletionPolicy asks");
    Some(Step::act(Configure, Some(name), why, Action::KeepVolume { name: name.clone() }))
}
