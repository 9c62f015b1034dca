//! What happens by itself (kubelet, the store, time), and what goes wrong.

use super::state::{BAD, Content, End, PodState, Run, Slot, State, Status};
use super::{Failing, Scope, Turn};
use crate::api::DeletionPolicy;
use crate::plan::{Exit, Start, quorum};

/// Every way the world can move on without the operator and without failures.
pub fn by_itself(state: &State) -> Vec<(String, State)> {
    let mut next = Vec::new();
    for slot in 0..state.slots.len() {
        if state.slots[slot].pod.as_ref().is_some_and(|pod| pod.unheard) {
            let mut after = state.clone();
            after.slots[slot].pod.iter_mut().for_each(|pod| pod.unheard = false);
            after.steady = false;
            next.push((format!("m{slot} is heard again"), after));
        }
        match state.slots[slot].pod.as_ref().map(|pod| pod.run) {
            Some(Run::Starting) => next.extend(starts(state, slot).map(|after| (format!("pod m{slot} starts"), after))),
            Some(Run::Terminating) => {
                let mut after = state.clone();
                after.slots[slot].pod = None;
                after.slots[slot].volume = after.slots[slot].volume.take().filter(|volume| !volume.deleting);
                next.push((format!("pod m{slot} is gone"), after));
            }
            Some(Run::Up) => next.extend(syncs(state, slot).map(|after| (format!("m{slot} catches up"), after))),
            _ => {}
        }
    }
    for store in 0..state.stores.len() {
        if state.stores[store].leader.is_some() || !state.quorate(store) {
            continue;
        }
        for seat in state.voters(store).filter(|seat| state.running(seat.slot).is_some_and(|(_, s)| s.id == seat.id)) {
            let mut after = state.clone();
            after.stores[store].leader = Some(seat.id);
            next.push((format!("m{} becomes leader", seat.slot), after));
        }
    }
    if !state.steady && state.slots.iter().all(|slot| slot.pod.as_ref().is_none_or(|pod| pod.run != Run::Up)) {
        let mut after = state.clone();
        after.steady = true;
        next.push(("time passes".into(), after));
    }
    next
}

fn starts(state: &State, slot: usize) -> Option<State> {
    let mut after = state.clone();
    let pod = state.slots[slot].pod.as_ref()?;
    let content = state.slots[slot].volume.as_ref().map_or(Content::Empty, |volume| volume.content);
    let run = match content {
        _ if pod.template == BAD => Run::Stuck,
        Content::Corrupt => Run::Exited(Exit::Corrupt),
        Content::Data { store, id, .. } => match state.stores[usize::from(store)].seats.iter().any(|seat| seat.id == id) {
            true => Run::Up,
            false => Run::Exited(Exit::Removed),
        },
        Content::Empty => joins(&mut after, slot, pod)?,
    };
    if let Some(pod) = &mut after.slots[slot].pod {
        pod.run = run;
    }
    after.steady = false;
    Some(after)
}

/// What a process does on an empty volume: found, join, or refuse; and ask again for as long as nobody answers.
fn joins(after: &mut State, slot: usize, pod: &PodState) -> Option<Run> {
    if pod.start == Start::New {
        after.refounded |= after.published;
        // Ids follow from names: before anybody wrote, who founds again founds the same store.
        let same = after.stores.iter().position(|store| matches!(&store.seats[..], [seat] if seat.slot == slot));
        if let Some(store) = same.filter(|_| !after.published) {
            let id = after.stores[store].seats[0].id;
            after.slots[slot].volume.as_mut()?.content = Content::Data { store: store as u8, id, complete: true };
            return Some(Run::Up);
        }
        let id = after.next_id;
        after.next_id += 1;
        let seat = super::state::SeatState { id, slot, learner: false, started: true };
        after.stores.push(super::state::StoreState { seats: vec![seat], leader: None });
        let store = after.stores.len() as u8 - 1;
        if let Some(volume) = &mut after.slots[slot].volume {
            volume.content = Content::Data { store, id, complete: true };
        }
        return Some(Run::Up);
    }
    let store = after.answering()?;
    let told: Vec<_> = after.stores[store].seats.iter().map(|seat| format!("m{0}=http://m{0}:2380", seat.slot)).collect();
    let seat = after.stores[store].seats.iter_mut().find(|seat| seat.slot == slot);
    Some(match seat {
        Some(seat) if !seat.started && told.join(",") == pod.told => {
            seat.started = true;
            let id = seat.id;
            if let Some(volume) = &mut after.slots[slot].volume {
                volume.content = Content::Data { store: store as u8, id, complete: false };
            }
            Run::Up
        }
        Some(seat) if seat.started => Run::Exited(Exit::DataGone),
        _ => Run::Stuck,
    })
}

fn syncs(state: &State, slot: usize) -> Option<State> {
    let (store, _) = state.running(slot)?;
    state.stores[store].leader?;
    let mut after = state.clone();
    let Slot { pod: Some(pod), volume: Some(volume), .. } = &mut after.slots[slot] else {
        return None;
    };
    pod.run = Run::Synced;
    if let Content::Data { complete, .. } = &mut volume.content {
        *complete = true;
    }
    Some(after)
}

/// A pod stops running; a leader in it is one no more.
pub fn stops(state: &mut State, slot: usize, run: Run) {
    if let Some((store, seat)) = state.running(slot).map(|(store, seat)| (store, seat.id))
        && state.stores[store].leader == Some(seat)
    {
        state.stores[store].leader = None;
    }
    if let Some(pod) = state.slots[slot].pod.as_mut().filter(|pod| pod.run != Run::Terminating) {
        (pod.run, pod.unheard) = (run, false);
    }
    let quorate: Vec<bool> = (0..state.stores.len()).map(|store| state.quorate(store)).collect();
    for (store, quorate) in state.stores.iter_mut().zip(quorate) {
        store.leader = store.leader.filter(|_| quorate);
    }
    state.steady = false;
}

/// Every single thing that can go wrong.
pub fn failures(state: &State, failing: Failing) -> Vec<(String, State)> {
    if state.failures_left == 0 || state.end.done {
        return vec![];
    }
    let mut next = Vec::new();
    let mut fails = |what: String, change: &dyn Fn(&mut State)| {
        let mut after = state.clone();
        after.failures_left -= 1;
        change(&mut after);
        next.push((what, after));
    };
    for slot in 0..state.slots.len() {
        let Slot { object, volume, pod } = &state.slots[slot];
        if volume.is_some() {
            fails(format!("the node of m{slot} is gone for good"), &|after| {
                stops(after, slot, Run::Terminating);
                (after.slots[slot].pod, after.slots[slot].volume) = (None, None);
            });
        }
        if failing == Failing::Silence && state.heard(slot).is_some() {
            fails(format!("m{slot} is not heard by the operator"), &|after| {
                after.slots[slot].pod.as_mut().expect("a pod").unheard = true;
            });
        }
        if failing != Failing::Anything {
            continue;
        }
        if pod.as_ref().is_some_and(|pod| !matches!(pod.run, Run::Terminating | Run::Ended)) {
            fails(format!("pod m{slot} is deleted"), &|after| stops(after, slot, Run::Terminating));
            fails(format!("pod m{slot} is evicted"), &|after| stops(after, slot, Run::Ended));
            fails(format!("pod m{slot} crashes"), &|after| stops(after, slot, Run::Starting));
        }
        if volume.is_some() {
            fails(format!("the data of m{slot} is corrupt"), &|after| {
                stops(after, slot, Run::Starting);
                after.slots[slot].volume.as_mut().expect("a volume").content = Content::Corrupt;
            });
            fails(format!("the volume of m{slot} is emptied"), &|after| {
                stops(after, slot, Run::Starting);
                after.slots[slot].volume.as_mut().expect("a volume").content = Content::Empty;
            });
        }
        if object.is_some() {
            fails(format!("somebody deletes EtcdMember m{slot}"), &|after| {
                after.slots[slot].object = None;
                stops(after, slot, Run::Terminating);
            });
        }
    }
    if failing != Failing::Anything {
        return next;
    }
    let mut fails = |what: &str, change: &dyn Fn(&mut State)| {
        let mut after = State { failures_left: state.failures_left - 1, ..state.clone() };
        change(&mut after);
        next.push((what.into(), after));
    };
    if state.budget.is_some() {
        fails("somebody deletes the disruption budget", &|after| after.budget = None);
    }
    if state.status != Status::default() && !state.end.finalizer {
        fails("the resource is deleted and created again", &vanishes);
    }
    if state.status.operation.is_some() && !state.status.overdue {
        fails("the deadline passes", &|after| after.status.overdue = true);
    }
    next
}

/// The resource is gone: Kubernetes takes away what it owned, and what that owned.
pub fn vanishes(after: &mut State) {
    after.status = Status::default();
    (after.published, after.budget) = (false, None);
    for slot in 0..after.slots.len() {
        after.slots[slot].object = None;
        stops(after, slot, Run::Terminating);
    }
}

/// Every change of mind.
pub fn edits(state: &State, scope: &Scope) -> Vec<(String, State)> {
    if state.edits_left == 0 || state.end.done {
        return vec![];
    }
    let decided = State { edits_left: state.edits_left - 1, ..state.clone() };
    let mut next = Vec::new();
    // Whoever deletes it may still think better of the volumes.
    let specs = scope.specs.iter().filter(|spec| **spec != state.spec && !state.end.asked);
    for spec in specs {
        let what = format!("the spec asks for {} of template {}", spec.0, spec.1);
        next.push((what, State { spec: *spec, ..decided.clone() }));
    }
    if scope.turns.contains(&Turn::Pause) {
        let what = if state.paused { "the pause is over" } else { "there is a pause" };
        next.push((what.into(), State { paused: !state.paused, ..decided.clone() }));
    }
    if scope.turns.contains(&Turn::Deletion) {
        let policy = match state.end.policy {
            DeletionPolicy::Retain => DeletionPolicy::Delete,
            DeletionPolicy::Delete => DeletionPolicy::Retain,
        };
        let end = End { policy, ..state.end.clone() };
        next.push((format!("deletionPolicy is {policy:?}"), State { end, ..decided.clone() }));
    }
    if scope.turns.contains(&Turn::Deletion) && !state.end.asked {
        let mut after = decided;
        if state.end.finalizer {
            after.end.asked = true;
        } else {
            after.end.done = true;
            vanishes(&mut after);
        }
        next.push(("the resource is deleted".into(), after));
    }
    next
}

/// Of the newest store: how many voters a majority needs, and how many have everything.
pub fn data(state: &State) -> Option<(usize, usize)> {
    let store = state.stores.len().checked_sub(1)?;
    Some((quorum(state.voters(store).count()), state.complete(store)))
}
