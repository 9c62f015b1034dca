//! Certificates that the operator issues or asks of cert-manager, and the steps in which an authority is replaced.
//!
//! Secrets reach members and clients late, and each at a time of its own. So a step is taken only when every certificate
//! is as the last one wants it, every member has been seen to follow it, and clients have had the time they were promised.

use super::authority::{Authority, Trust, Turn};
use super::decision::{Action, Step};
use super::world::{Need, Surrounding, World};
use crate::api::Leaf;
use crate::api::OperationType::{Certify, RotateCA};

/// What there is to do. It goes before what needs certificates, and touches no member.
pub(super) fn certify(world: &World) -> Option<Step> {
    let asked = |surrounding: &Surrounding| match surrounding {
        Surrounding::Certificate(leaf) => Some(*leaf),
        _ => None,
    };
    let asks = world.outdated.iter().filter_map(asked).filter_map(|leaf| ask(world, leaf));
    asks.chain(world.authorities.iter().filter_map(|authority| turn(world, authority))).next()
}

fn ask(world: &World, leaf: Leaf) -> Option<Step> {
    let object = Surrounding::Certificate(leaf);
    let free = world.obstacle_to(&Need::Object(object)).is_none();
    let why = format!("Asking cert-manager for the {} certificate", leaf.as_str());
    free.then(|| Step::act(Certify, None, why, Action::Apply(object)))
}

fn turn(world: &World, authority: &Authority) -> Option<Step> {
    let side = authority.side;
    let act = |turn, why: String| Some(Step::act(RotateCA, None, why, Action::Turn { side, turn }));
    let of = side.as_str();
    if authority.trust == Trust::Nobody {
        let why = format!("Making the authority that signs {of} certificates");
        return Some(Step::act(Certify, None, why, Action::Turn { side, turn: Turn::Found }));
    }
    if let Some(leaf) = authority.due.first() {
        let why = format!("Issuing the {} certificate", leaf.as_str());
        return Some(Step::act(Certify, None, why, Action::Issue { leaf: *leaf }));
    }
    let done = authority.overlapped && missing(world, authority).is_none();
    match authority.trust {
        Trust::Nobody => None,
        Trust::One => {
            let why = authority.outdated.as_ref()?;
            act(Turn::Trust, format!("Replacing the {of} authority, {why}; step 1 of 3: trusting the old and the new one"))
        }
        Trust::Next if done => act(Turn::Sign, format!("Replacing the {of} authority, step 2 of 3: the new one signs")),
        Trust::Former if done => act(Turn::Drop, format!("Replacing the {of} authority, step 3 of 3: dropping the old one")),
        Trust::Next | Trust::Former => None,
    }
}

/// What the next step of a replacement waits for, if clients have had their time: a member that has not followed the last one.
pub(super) fn await_members(world: &World) -> Option<Step> {
    world.authorities.iter().filter(|authority| authority.overlapped && authority.due.is_empty()).find_map(|authority| {
        let name = missing(world, authority)?;
        let (step, lacks) = match authority.trust {
            Trust::Next => ("1 of 3: trusting the old and the new one", "does not trust the new one yet"),
            Trust::Former => ("2 of 3: the new one signs", "does not show what the new one signed yet"),
            Trust::Nobody | Trust::One => return None,
        };
        let side = authority.side.as_str();
        let blocked_by = format!(
            "{name} {lacks} on its {side} port: kubelets bring Secrets into pods within a minute or two, and this operator has to \
             reach that port"
        );
        let why = format!("Replacing the {side} authority, step {step}");
        Some(Step::wait(RotateCA, Some(name), why, blocked_by))
    })
}

/// A member that has not followed. One without a process may come back with what it was given before.
fn missing<'w>(world: &'w World, authority: &Authority) -> Option<&'w str> {
    let there = world.members.iter().filter(|(_, member)| member.object.is_some() || member.pod.is_some());
    there.map(|(name, _)| name.as_str()).find(|name| authority.followed.iter().all(|followed| followed != name))
}
