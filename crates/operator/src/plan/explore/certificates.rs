//! Explores how authorities are replaced: Secrets that reach members and clients in any order and at any time, people who
//! ask for another replacement or delete a Secret in the middle, an operator that stops between any two writes.
//!
//! It proves that nobody is refused by somebody at any moment, and that where nothing moves any more, only the newest
//! authority is trusted. What a certificate is made of does not matter here: an authority is a number.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{Seen, goes_in_no_circle, story};
use crate::api::{Leaf, Side};
use crate::plan::tests::settled;
use crate::plan::{Action, Authority, Decision, Trust, Turn, World, plan};

/// A certificate and those who are trusted beside it, in a Secret or where somebody has loaded it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shown {
    by: u8,
    trusts: BTreeSet<u8>,
}

/// The Secret of an authority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Signers {
    signer: Option<u8>,
    next: Option<u8>,
    trusted: BTreeSet<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Papers {
    side: Side,
    authority: Option<Signers>,
    secrets: BTreeMap<Leaf, Shown>,
    /// What members and a client have loaded.
    members: BTreeMap<String, Shown>,
    client: Option<Shown>,
    /// The client had its time since the last write.
    overlapped: bool,
    asked: bool,
    replacements_left: u8,
    deletions_left: u8,
    /// Authorities that were ever made.
    made: u8,
}

impl Papers {
    /// A cluster at rest, whose certificates were signed by the first authority.
    fn new(side: Side, replacements_left: u8, deletions_left: u8) -> Self {
        let shown = Shown { by: 0, trusts: BTreeSet::from([0]) };
        Papers {
            side,
            authority: Some(Signers { signer: Some(0), next: None, trusted: BTreeSet::from([0]) }),
            secrets: side.leaves().iter().map(|leaf| (*leaf, shown.clone())).collect(),
            members: ["a", "b"].map(|name| (name.to_string(), shown.clone())).into(),
            client: (side == Side::Client).then_some(shown),
            overlapped: false,
            asked: false,
            replacements_left,
            deletions_left,
            made: 1,
        }
    }

    /// What members show on this side.
    fn of_members(&self) -> Leaf {
        self.side.leaves()[0]
    }

    fn trust(&self) -> Trust {
        match &self.authority {
            None => Trust::Nobody,
            Some(signers) if signers.next.is_some() => Trust::Next,
            Some(signers) if signers.trusted.len() > 1 => Trust::Former,
            Some(_) => Trust::One,
        }
    }

    fn due(&self) -> Vec<Leaf> {
        let Some(signers) = &self.authority else {
            return vec![];
        };
        let stays = |shown: &Shown| shown.trusts == signers.trusted && signers.signer.is_none_or(|signer| signer == shown.by);
        self.side.leaves().iter().filter(|leaf| !self.secrets.get(*leaf).is_some_and(stays)).copied().collect()
    }

    /// What the planner gets to see.
    fn world(&self) -> World {
        let mut world = settled(self.members.len());
        let follows = |shown: &Shown| match &self.authority {
            Some(Signers { next: Some(next), .. }) => shown.trusts.contains(next),
            Some(Signers { signer, .. }) => Some(shown.by) == *signer,
            None => false,
        };
        let followed = self.members.iter().filter(|(_, shown)| follows(shown)).map(|(name, _)| name.clone()).collect();
        world.authorities = vec![Authority {
            side: self.side,
            trust: self.trust(),
            due: self.due(),
            outdated: self.asked.then(|| "as asked".into()),
            overlapped: self.overlapped,
            followed,
        }];
        world
    }

    fn act(&mut self, action: &Action) -> Result<(), String> {
        self.overlapped = false;
        match action {
            Action::Issue { leaf } => {
                let signers = self.authority.as_ref().ok_or("signed by nobody")?;
                let kept = self.secrets.get(leaf).map(|shown| shown.by);
                let kept = kept.filter(|by| signers.signer.is_none_or(|signer| signer == *by));
                let by = kept.or(signers.signer).or(signers.next).ok_or("signed by nobody")?;
                self.secrets.insert(*leaf, Shown { by, trusts: signers.trusted.clone() });
            }
            Action::Turn { turn, .. } => self.turn(*turn)?,
            other => return Err(format!("{other:?} has nothing to do with certificates")),
        }
        Ok(())
    }

    fn turn(&mut self, turn: Turn) -> Result<(), String> {
        let new = self.made;
        let taken = self.authority.take();
        let there = || taken.clone().ok_or("there is no authority");
        let signers = match turn {
            Turn::Found => {
                let left: BTreeSet<u8> = self.secrets.values().flat_map(|shown| shown.trusts.clone()).collect();
                match left.is_empty() {
                    true => Signers { signer: Some(new), next: None, trusted: BTreeSet::from([new]) },
                    false => Signers { signer: None, next: Some(new), trusted: left.into_iter().chain([new]).collect() },
                }
            }
            Turn::Trust => {
                let old = there()?;
                Signers { next: Some(new), trusted: old.trusted.iter().copied().chain([new]).collect(), ..old }
            }
            Turn::Sign => {
                let old = there()?;
                Signers { signer: old.next, next: None, ..old }
            }
            Turn::Drop => {
                let old = there()?;
                Signers { trusted: old.signer.into_iter().collect(), ..old }
            }
        };
        if matches!(turn, Turn::Found | Turn::Trust) {
            (self.made, self.asked) = (new + 1, false);
        }
        self.authority = Some(signers);
        Ok(())
    }

    /// What happens without anybody's doing: kubelets bring Secrets, clients take them over, time passes.
    fn by_itself(&self) -> Vec<(String, Papers)> {
        let mut ways = Vec::new();
        if let Some(secret) = self.secrets.get(&self.of_members()) {
            for (name, _) in self.members.iter().filter(|(_, shown)| *shown != secret) {
                let mut after = self.clone();
                after.members.insert(name.clone(), secret.clone());
                ways.push((format!("{name} loads its Secret"), after));
            }
        }
        let secret = self.secrets.get(&Leaf::Client).filter(|_| self.client.is_some());
        if let Some(secret) = secret.filter(|secret| self.client.as_ref() != Some(secret)) {
            ways.push(("the client loads its Secret".into(), Papers { client: Some(secret.clone()), ..self.clone() }));
        } else if !self.overlapped && self.due().is_empty() && matches!(self.trust(), Trust::Next | Trust::Former) {
            // A client keeps to the time it was promised.
            ways.push(("time passes".into(), Papers { overlapped: true, ..self.clone() }));
        }
        ways
    }

    fn failures(&self) -> Vec<(String, Papers)> {
        let mut ways = Vec::new();
        if self.replacements_left > 0 && !self.asked {
            let after = Papers { asked: true, replacements_left: self.replacements_left - 1, ..self.clone() };
            ways.push(("another authority is asked for".into(), after));
        }
        if self.deletions_left > 0 {
            let left = Papers { deletions_left: self.deletions_left - 1, ..self.clone() };
            if self.authority.is_some() {
                ways.push(("the authority's Secret is deleted".into(), Papers { authority: None, ..left.clone() }));
            }
            for leaf in self.secrets.keys() {
                let mut after = left.clone();
                after.secrets.remove(leaf);
                ways.push((format!("the {} Secret is deleted", leaf.as_str()), after));
            }
        }
        ways
    }

    /// Everybody trusts everybody they talk to.
    fn always(&self) -> Result<(), String> {
        let trust = |a: &Shown, b: &Shown| a.trusts.contains(&b.by) && b.trusts.contains(&a.by);
        for (name, member) in &self.members {
            if self.side == Side::Peer && !self.members.values().all(|other| trust(member, other)) {
                return Err(format!("{name} and another member refuse each other"));
            }
            if self.client.as_ref().is_some_and(|client| !trust(member, client)) {
                return Err(format!("{name} and the client refuse each other"));
            }
            // The operator takes its certificate from one Secret, and whom it trusts from the other.
            if let (Some(server), Some(own)) = (self.secrets.get(&Leaf::Server), self.secrets.get(&Leaf::Client))
                && !(server.trusts.contains(&member.by) && member.trusts.contains(&own.by))
            {
                return Err(format!("{name} and the operator refuse each other"));
            }
        }
        Ok(())
    }

    fn rests_well(&self) -> Result<(), String> {
        let newest = self.made - 1;
        let last = Shown { by: newest, trusts: BTreeSet::from([newest]) };
        let everywhere = self.secrets.values().chain(self.members.values()).chain(&self.client).all(|shown| *shown == last);
        let whole = self.secrets.len() == self.side.leaves().len();
        match everywhere && whole && self.trust() == Trust::One {
            true => Ok(()),
            false => Err("it came to rest before only the newest authority was left".into()),
        }
    }
}

/// Explores and returns how many worlds there are; panics with the shortest story that breaks a rule.
fn explore(start: Papers, planner: fn(&World) -> Decision) -> usize {
    let mut index = HashMap::from([(start.clone(), 0u32)]);
    let mut seen = vec![Seen { from: 0, by: "it begins".into(), onward: vec![] }];
    let mut queue = VecDeque::from([(0u32, start)]);
    while let Some((at, papers)) = queue.pop_front() {
        if let Err(rule) = papers.always() {
            fail(&seen, at, &rule, &papers);
        }
        let mut onward = papers.by_itself();
        if let Some(action) = planner(&papers.world()).action {
            let mut after = papers.clone();
            if let Err(rule) = after.act(&action) {
                fail(&seen, at, &rule, &papers);
            }
            onward.push((format!("the operator: {action:?}"), after));
        }
        if onward.is_empty()
            && let Err(rule) = papers.rests_well()
        {
            fail(&seen, at, &rule, &papers);
        }
        let calm = onward.len();
        for (order, (by, after)) in onward.into_iter().chain(papers.failures()).enumerate() {
            let to = *index.entry(after.clone()).or_insert_with(|| {
                seen.push(Seen { from: at, by: by.into(), onward: vec![] });
                queue.push_back((seen.len() as u32 - 1, after));
                seen.len() as u32 - 1
            });
            if order < calm {
                seen[at as usize].onward.push(to);
            }
        }
    }
    goes_in_no_circle(&seen);
    seen.len()
}

fn fail(seen: &[Seen], at: u32, rule: &str, papers: &Papers) -> ! {
    panic!("{rule}\n{}\n{papers:#?}", story(seen, at))
}

#[test]
fn nobody_is_refused_while_authorities_are_replaced_and_secrets_deleted() {
    for side in Side::ALL {
        let worlds = explore(Papers::new(side, 2, 1), plan);
        println!("{worlds} worlds");
        assert!(worlds > 100, "only {worlds} worlds: the scope does not do what it is for");
    }
}

/// A planner that takes what is written for what is loaded.
fn hasty(world: &World) -> Decision {
    let mut rosy = world.clone();
    for authority in &mut rosy.authorities {
        authority.followed = rosy.members.keys().cloned().collect();
    }
    plan(&rosy)
}

#[test]
#[should_panic(expected = "refuse each other")]
fn the_exploration_catches_a_planner_that_does_not_ask_members() {
    explore(Papers::new(Side::Peer, 1, 0), hasty);
}

/// A planner that gives clients no time.
fn impatient(world: &World) -> Decision {
    let mut late = world.clone();
    late.authorities.iter_mut().for_each(|authority| authority.overlapped = true);
    plan(&late)
}

#[test]
#[should_panic(expected = "and the client refuse each other")]
fn the_exploration_catches_a_planner_that_gives_clients_no_time() {
    explore(Papers::new(Side::Client, 1, 0), impatient);
}
