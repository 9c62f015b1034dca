//! The disruption budget: how many voters must stay up when nodes are drained.
//!
//! *Invariant*: `minAvailable` is never below the quorum of the voters there are or will be, and it counts voters only.
//! So it is raised before a learner is promoted, and a voter that is to go stops counting before it is removed.

use super::decision::{Action, Step};
use super::removal;
use super::view::{View, quorum};
use super::world::Need;
use crate::api::OperationType::Configure;

pub(super) fn budget(view: &View) -> Option<Step> {
    // Somebody else's is left alone; members do not wait for it.
    let ours = view.world.obstacle_to(&Need::Budget).is_none();
    if !view.world.cluster.budget_enabled {
        let why = "Deleting the disruption budget, as spec.pdb asks";
        return view.world.budget.map(|_| Step::act(Configure, None, why, Action::DeleteBudget));
    }
    let due = i32::try_from(quorum(view.voter_count().max(view.goal.replicas))).unwrap_or(i32::MAX);
    if ours && view.world.budget != Some(due) {
        let why = format!("Setting the disruption budget to at least {due} voters");
        return Some(Step::act(Configure, None, why, Action::SetBudget { min_available: due }));
    }
    let leaving = removal::allowed(view);
    view.seats.iter().find_map(|seat| {
        let pod = seat.member?.pod.as_ref()?;
        let counted = !seat.listed.learner && leaving != Some(seat.listed.id);
        if pod.counted == counted {
            return None;
        }
        let name = seat.name.to_string();
        let why = match counted {
            true => format!("Counting {name} as a voter in the disruption budget"),
            false => format!("No longer counting {name} in the disruption budget"),
        };
        Some(Step::act(Configure, Some(&name.clone()), why, Action::Count { name, counted }))
    })
}
