//! Volumes without an EtcdMember: of a cluster that was deleted and created again, or whose EtcdMember somebody deleted.
//! They are taken over under their old name, never passed over and never founded upon.

use super::decision::{Action, Step};
use super::world::{Member, Need, VolumeState, World};
use crate::api::OperationType::Adopt;
use crate::api::Origin;

pub(super) fn adopt(world: &World) -> Option<Step> {
    // An EtcdMember of that name that is still going is waited for.
    let free = |name: &String| world.obstacle_to(&Need::Member(name.clone())).is_none();
    let orphan = world.members.iter().find(|(name, member)| member.object.is_none() && kept(member) && free(name));
    let (name, _) = orphan?;
    let token = token(world).unwrap_or_else(|| world.fresh.token.clone());
    let action = Action::CreateMember { name: name.clone(), token, origin: Origin::Adopted };
    Some(Step::act(Adopt, Some(name), format!("Taking over the volume of {name}"), action))
}

/// A volume that is being deleted is nothing to take over; it may still be waited for.
fn kept(member: &Member) -> bool {
    member.volume.as_ref().is_some_and(|volume| volume.state != VolumeState::Deleting)
}

/// The store's token, wherever it is remembered.
pub(super) fn token(world: &World) -> Option<String> {
    let of_objects = world.members.values().filter_map(|member| Some(member.object.as_ref()?.token.clone()));
    let of_volumes = world.members.values().filter_map(|member| member.volume.as_ref()?.token.clone());
    world.cluster.token.clone().or_else(|| of_volumes.chain(of_objects).next())
}
