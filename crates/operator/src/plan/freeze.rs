//! Contradictions that no rule may act upon: they are reported, and everything stays as it is.

use std::collections::BTreeMap;

use super::decision::Step;
use super::ids::{ClusterId, MemberId};
use super::world::{Alarm, Store, VolumeState, World};
use crate::api::OperationType;

/// A wait that only a person can end, if the world contradicts itself.
pub(super) fn frozen(world: &World) -> Option<Step> {
    let why = two_stores(world)
        .or_else(|| corrupt(world))
        .or_else(|| two_tokens(world))
        .or_else(|| one_id_twice(world))
        .or_else(|| too_many_gone(world))?;
    Some(Step::wait(OperationType::Frozen, None, "Leaving everything as it is until a person has looked", why))
}

/// True when answers cannot all be of one store, so that none of them may be remembered.
pub(super) fn contradicts(world: &World) -> bool {
    two_stores(world).is_some()
}

fn two_stores(world: &World) -> Option<String> {
    let mut seen: Vec<(ClusterId, String)> = Vec::new();
    let mut note = |id: ClusterId, who: String| {
        if seen.iter().all(|(other, _)| *other != id) {
            seen.push((id, who));
        }
    };
    if let Some(id) = world.cluster.id {
        note(id, "this resource's status".into());
    }
    for (name, member) in &world.members {
        if let Some(id) = member.object.as_ref().and_then(|object| object.cluster_id) {
            note(id, format!("EtcdMember {name}"));
        }
        if let Some(id) = member.volume.as_ref().and_then(|volume| volume.cluster_id) {
            note(id, format!("the volume of {name}"));
        }
        if let Some(word) = &member.word {
            note(word.cluster_id, format!("member {name}"));
        }
    }
    if let Store::Listed { cluster_id, .. } = world.store {
        note(cluster_id, "the member list".into());
    }
    let [(first, a), (second, b), ..] = seen.as_slice() else {
        return None;
    };
    Some(format!(
        "two different stores: {a} has cluster id {first}, {b} has {second}. \
         Find out which one holds the data clients use, then delete the volume and the EtcdMember of the others, which has to be annotated with keelson.dev/may-be-deleted= for that"
    ))
}

fn corrupt(world: &World) -> Option<String> {
    let raised = |(name, member): (&String, &super::world::Member)| {
        member.word.as_ref().is_some_and(|word| word.alarms.contains(&Alarm::Corrupt)).then(|| name.clone())
    };
    let name = world.members.iter().find_map(raised)?;
    Some(format!(
        "member {name} reports the CORRUPT alarm: members disagree about the data. Compare them with `etcdctl endpoint hashkv --cluster`, \
         remove the one that differs, then disarm with `etcdctl alarm disarm`"
    ))
}

fn two_tokens(world: &World) -> Option<String> {
    let known = world.cluster.token.as_deref().map(|token| (token, "this resource's status"));
    let volumes = world.members.iter().filter_map(|(name, m)| Some((m.volume.as_ref()?.token.as_deref()?, name.as_str())));
    let mut tokens = known.into_iter().chain(volumes);
    let (first, a) = tokens.next()?;
    let (_, b) = tokens.find(|(token, _)| *token != first)?;
    Some(format!(
        "volumes of two different stores carry this cluster's name: those of {a} and {b}. \
         Remove the label keelson.dev/cluster from the volume claims that do not belong here"
    ))
}

/// An id is given once. Two members that go by it are one volume and its copy: each would vote in the other's name.
fn one_id_twice(world: &World) -> Option<String> {
    let mut seen: BTreeMap<MemberId, &str> = BTreeMap::new();
    for (name, member) in &world.members {
        let told = member.word.as_ref().map(|word| word.member_id);
        let recorded = member.object.as_ref().and_then(|object| object.id);
        let on_volume = member.volume.as_ref().and_then(|volume| volume.member_id);
        for id in [told, recorded, on_volume].into_iter().flatten() {
            let Some(other) = seen.insert(id, name).filter(|other| *other != name.as_str()) else {
                continue;
            };
            return Some(format!(
                "{other} and {name} are both member {id}: the data of one is a copy of the other's, and both could vote in its name. \
                 Find out which one the others know (`etcdctl member list`), then delete the pod and the volume claim of the other, \
                 and its EtcdMember, which has to be annotated with keelson.dev/may-be-deleted= for that"
            ));
        }
    }
    None
}

/// Members are removed one at a time, and cleaned up after before the next. A list that lacks several is that of a store
/// which was founded anew under the same ids, or of a person who has to say so.
fn too_many_gone(world: &World) -> Option<String> {
    let Store::Listed { list, .. } = &world.store else {
        return None;
    };
    let unlisted = |member: &super::world::Member| {
        let id = member.object.as_ref().and_then(|object| object.id);
        let kept = member.volume.as_ref().is_some_and(|volume| volume.state != VolumeState::Deleting);
        kept && id.is_some_and(|id| list.iter().all(|listed| listed.id != id))
    };
    let names: Vec<_> = world.members.iter().filter(|(_, member)| unlisted(member)).map(|(name, _)| name.as_str()).collect();
    (names.len() > 1).then(|| {
        format!(
            "the member list lacks {}, whose volumes are here: the store that answers may have been founded anew beside theirs. \
             Find out which one holds the data clients use. If they were removed on purpose, delete their volume claims",
            names.join(" and ")
        )
    })
}
