//! Carries out what the planner decides, with the rules it may not break checked at every action.

use super::happen::{stops, vanishes};
use super::state::{Content, ObjectState, PodState, Run, SeatState, Slot, State, VolState, name, slot_of};
use crate::plan::{Action, Decision, Record, Start, Surrounding, quorum};

/// How much of an action happens before the operator crashes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// The first of two writes.
    Half,
}

/// The world after `decision` was carried out, or the rule it breaks.
pub fn act(state: &State, decision: &Decision, extent: Extent) -> Result<State, String> {
    let Some(action) = &decision.action else {
        return Ok(state.clone());
    };
    allowed(state, action)?;
    if asks_the_leader(action) && !state.hears_leader() {
        // It fails, and is tried again.
        return Ok(state.clone());
    }
    let mut after = state.clone();
    perform(&mut after, action, extent);
    kept(state, &after, action)?;
    Ok(after)
}

fn asks_the_leader(action: &Action) -> bool {
    use Action::{AddLearner, MoveLeader, Promote, RemoveMember};
    matches!(action, AddLearner { .. } | Promote { .. } | RemoveMember { .. } | MoveLeader { .. })
}

fn perform(after: &mut State, action: &Action, extent: Extent) {
    match action {
        // Certificates have an exploration of their own.
        Action::Apply(Surrounding::PeerService | Surrounding::Certificate(_))
        | Action::DeleteBudget
        | Action::Issue { .. }
        | Action::Turn { .. } => {}
        Action::SetFinalizer(present) => {
            after.end.finalizer = *present;
            if after.end.asked && !present {
                after.end.done = true;
                vanishes(after);
            }
        }
        Action::Apply(_) => after.published = true,
        Action::CreateMember { name, origin, .. } => {
            after.slots[slot_of(name)].object =
                Some(ObjectState { origin: *origin, id: None, cluster: None, volume: None, told: None });
        }
        Action::CreateVolume { name } => {
            let uid = after.next_id;
            after.next_id += 1;
            let slot = &mut after.slots[slot_of(name)];
            let (id, cluster) = slot.object.as_ref().map_or((None, None), |object| (object.id, object.cluster));
            slot.volume = Some(VolState { uid, id, cluster, content: Content::Empty, kept: false, deleting: false });
        }
        Action::Record { name, record } => note(&mut after.slots[slot_of(name)], record, extent),
        Action::CreatePod { name, start } => {
            let template = after.status.latched.expect("a target is latched before pods are made").1;
            let slot = &mut after.slots[slot_of(name)];
            let told = slot.object.as_ref().and_then(|object| object.told.clone()).unwrap_or_default();
            slot.pod = Some(PodState { template, start: *start, told, counted: false, run: Run::Starting, unheard: false });
        }
        Action::DeletePod { name } => stops(after, slot_of(name), Run::Terminating),
        Action::DeleteVolume { name } => {
            let Slot { volume, pod, .. } = &mut after.slots[slot_of(name)];
            *volume = volume.take().filter(|_| pod.is_some()).map(|volume| VolState { deleting: true, ..volume });
        }
        Action::DeleteMember { name } => after.slots[slot_of(name)].object = None,
        Action::KeepVolume { name } => after.slots[slot_of(name)].volume.as_mut().expect("a volume").kept = true,
        Action::Count { name, counted } => after.slots[slot_of(name)].pod.as_mut().expect("a pod").counted = *counted,
        Action::SetBudget { min_available } => after.budget = Some(*min_available as u8),
        Action::AddLearner { name } => {
            let (id, store) = (after.next_id, after.answering().expect("checked"));
            after.next_id += 1;
            after.stores[store].seats.push(SeatState { id, slot: slot_of(name), learner: true, started: false });
        }
        Action::Promote { id, .. } => {
            let store = after.answering().expect("checked");
            let seat = after.stores[store].seats.iter_mut().find(|seat| u64::from(seat.id) == id.0);
            seat.expect("checked").learner = false;
        }
        Action::MoveLeader { to, .. } => {
            let store = after.answering().expect("checked");
            after.stores[store].leader = Some(to.0 as u8);
        }
        Action::RemoveMember { id } => {
            let store = after.answering().expect("checked");
            let store = &mut after.stores[store];
            store.seats.retain(|seat| u64::from(seat.id) != id.0);
            store.leader = store.leader.filter(|leader| u64::from(*leader) != id.0);
        }
    }
    // A process whose member was removed ends by itself.
    for slot in 0..after.slots.len() {
        let live = after.slots[slot].pod.as_ref().is_some_and(|pod| matches!(pod.run, Run::Up | Run::Synced));
        if live && after.running(slot).is_none() {
            after.slots[slot].pod.as_mut().expect("live").run = Run::Exited(crate::plan::Exit::Removed);
        }
    }
}

fn note(slot: &mut Slot, record: &Record, extent: Extent) {
    let identity = record.identity.map(|(id, cluster)| (id.0 as u8, cluster.0 as u8));
    if let (Some(volume), Some((id, cluster))) = (&mut slot.volume, identity) {
        (volume.id, volume.cluster) = (Some(id), Some(cluster));
    }
    let Some(object) = slot.object.as_mut().filter(|_| extent == Extent::Whole) else {
        return;
    };
    if let Some((id, cluster)) = identity {
        (object.id, object.cluster) = (Some(id), Some(cluster));
    }
    if let Some(uid) = &record.volume_uid {
        object.volume = uid.parse().ok();
    }
    if let Some(told) = &record.initial_cluster {
        object.told = Some(told.clone());
    }
}

/// Rules about an action by itself.
fn allowed(state: &State, action: &Action) -> Result<(), String> {
    let store = state.answering();
    let quorate = || store.ok_or_else(|| format!("{action:?} without a quorum"));
    if state.paused && !state.end.asked {
        return Err(format!("{action:?} during a pause"));
    }
    match action {
        Action::DeletePod { .. } | Action::DeleteVolume { .. } if state.end.takes_all() => Ok(()),
        Action::CreateMember { name, .. } => match &state.slots[slot_of(name)].object {
            Some(_) => Err(format!("{name} exists already")),
            None => Ok(()),
        },
        Action::CreatePod { name, start } => {
            let Slot { volume, pod, .. } = &state.slots[slot_of(name)];
            if pod.is_some() || volume.is_none() {
                return Err(format!("a pod for {name}, which has one or has no volume"));
            }
            let somebody_may_have_written = state.published || state.status.cluster.is_some();
            match start {
                Start::New if somebody_may_have_written => Err("a second founding".into()),
                _ => Ok(()),
            }
        }
        Action::DeletePod { name } => {
            let working = state.slots[slot_of(name)].pod.as_ref().is_some_and(|pod| matches!(pod.run, Run::Up | Run::Synced));
            if working && state.published { quorate().map(|_| ()) } else { Ok(()) }
        }
        Action::DeleteVolume { name } => {
            let slot = slot_of(name);
            let Some(Content::Data { store, id, .. }) = state.slots[slot].volume.as_ref().map(|volume| volume.content) else {
                return Ok(());
            };
            let counted_on = state.published && state.stores[usize::from(store)].seats.iter().any(|seat| seat.id == id);
            if counted_on { Err(format!("the volume of {name}, which the store counts on")) } else { Ok(()) }
        }
        Action::AddLearner { .. } => {
            let store = quorate()?;
            if state.stores[store].seats.iter().any(|seat| seat.learner) {
                return Err("two changes of the membership at a time".into());
            }
            match state.voters(store).all(|seat| state.running(seat.slot).is_some_and(|(_, s)| s.id == seat.id)) {
                true => Ok(()),
                false => Err("an addition the store refuses: a voter is down".into()),
            }
        }
        Action::Promote { id, .. } => {
            let store = quorate()?;
            let seat = state.stores[store].seats.iter().find(|seat| u64::from(seat.id) == id.0).ok_or("no such learner")?;
            let complete = state.slots[seat.slot].volume.as_ref().map(|volume| volume.content);
            let ready = matches!(complete, Some(Content::Data { complete: true, .. }));
            let budget = usize::from(state.budget.unwrap_or(0));
            if budget < quorum(state.voters(store).count() + 1) {
                return Err("a promotion before the disruption budget was raised".into());
            }
            if ready { Ok(()) } else { Err("a learner that is not caught up is promoted".into()) }
        }
        Action::RemoveMember { id } => {
            let store = quorate()?;
            let seat = state.stores[store].seats.iter().find(|seat| u64::from(seat.id) == id.0).ok_or("no such member")?;
            let counted = state.slots[seat.slot].pod.as_ref().is_some_and(|pod| pod.counted);
            if counted { Err("a removal while the disruption budget counts the member".into()) } else { Ok(()) }
        }
        Action::MoveLeader { .. } => quorate().map(|_| ()),
        _ => Ok(()),
    }
}

/// Rules about what an action leaves behind.
fn kept(before: &State, after: &State, action: &Action) -> Result<(), String> {
    if before.end.asked {
        return Ok(());
    }
    for store in 0..before.stores.len() {
        let (voters, left) = (before.voters(store).count(), after.voters(store).count());
        if before.complete(store) >= quorum(voters) && after.complete(store) < quorum(left) && before.published {
            return Err(format!("{action:?} takes the majority of the data away"));
        }
        let renewed = voters <= 2 && matches!(action, Action::DeletePod { .. });
        if before.quorate(store) && !after.quorate(store) && before.published && !renewed {
            return Err(format!("{action:?} takes the majority of running voters away"));
        }
    }
    Ok(())
}

/// Rules that hold in every world, whatever happened.
pub fn always(state: &State) -> Result<(), String> {
    if state.refounded {
        return Err("a second store was founded".into());
    }
    let Some(store) = state.answering() else {
        return Ok(());
    };
    if state.stores[store].seats.iter().filter(|seat| seat.learner).count() > 1 {
        return Err("two learners".into());
    }
    let votes = |slot: usize| state.voters(store).any(|seat| seat.slot == slot);
    let counted = |slot: &Slot| slot.pod.as_ref().is_some_and(|pod| pod.counted);
    for (slot, _) in state.slots.iter().enumerate().filter(|(_, slot)| counted(slot)) {
        let ended = state.slots[slot].pod.as_ref().is_some_and(|pod| matches!(pod.run, Run::Terminating | Run::Ended));
        if !votes(slot) && !ended {
            return Err(format!("the disruption budget counts {}, which does not vote", name(slot)));
        }
    }
    match state.budget {
        Some(budget) if usize::from(budget) < quorum(state.voters(store).count()) => {
            Err(format!("the disruption budget of {budget} is below the quorum"))
        }
        _ => Ok(()),
    }
}
