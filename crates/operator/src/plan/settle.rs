//! Whether every voter works, when no rule has anything to do.

use super::decision::Step;
use super::view::{Seat, View, trouble_of};
use crate::api::OperationType::Restart;

pub(super) fn settle(view: &View) -> Option<Step> {
    let working = |seat: &Seat| seat.healthy && seat.member.and_then(|m| m.pod.as_ref()).is_some_and(|pod| pod.ready);
    let seat = view.voters().find(|seat| !working(seat))?;
    let name = if seat.name.is_empty() { &seat.listed.peer_url } else { seat.name };
    let trouble = seat.member.and_then(|member| trouble_of(view, name, member));
    let trouble = trouble.or_else(|| Some(format!("{name} does not answer or lags; {}", view.world.hampered()?)));
    let blocked_by = trouble.unwrap_or_else(|| format!("{name} does not answer or lags"));
    Some(Step::wait(Restart, Some(name), format!("Waiting for member {name}"), blocked_by))
}
