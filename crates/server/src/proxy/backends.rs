//! Which member gets the next connection: one of the best priority that can be reached, by their weights if they have
//! any, or in turn.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::targets::Target;

/// One member.
pub struct Backend {
    /// Where it is.
    pub target: Target,
    active: AtomicBool,
}

impl Backend {
    /// Whether it gets connections.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }

    fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }
}

/// All members.
pub struct Backends {
    all: Vec<Backend>,
    turn: AtomicUsize,
}

/// Where others have weights, those without get one connection in so many.
const WEIGHTLESS: u32 = 100;

impl Backends {
    /// All of them count as reachable.
    pub fn new(targets: Vec<Target>) -> Self {
        let all = targets.into_iter().map(|target| Backend { target, active: AtomicBool::new(true) }).collect();
        Self { all, turn: AtomicUsize::new(0) }
    }

    /// Those that could not be reached.
    pub fn inactive(&self) -> impl Iterator<Item = &Backend> {
        self.all.iter().filter(|backend| !backend.is_active())
    }

    /// Who gets the next connection; nobody if none can be reached.
    pub fn pick(&self) -> Option<&Backend> {
        let active: Vec<&Backend> = self.all.iter().filter(|backend| backend.is_active()).collect();
        let best = active.iter().map(|backend| backend.target.priority).min()?;
        let best = active.into_iter().filter(|backend| backend.target.priority == best);
        let (weighted, others): (Vec<&Backend>, Vec<&Backend>) = best.partition(|backend| backend.target.weight > 0);
        if weighted.is_empty() || (!others.is_empty() && rand::random_range(0..WEIGHTLESS) == 0) {
            return others.get(self.turn.fetch_add(1, Ordering::Relaxed) % others.len()).copied();
        }
        let total: u32 = weighted.iter().map(|backend| u32::from(backend.target.weight)).sum();
        let mut chosen = rand::random_range(0..total);
        weighted.into_iter().find(|backend| {
            let weight = u32::from(backend.target.weight);
            let found = chosen < weight;
            chosen = chosen.saturating_sub(weight);
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(members: &[(&str, u16, u16)]) -> Backends {
        let target = |(host, priority, weight): &(&str, u16, u16)| Target {
            host: (*host).to_owned(),
            port: 1,
            priority: *priority,
            weight: *weight,
        };
        Backends::new(members.iter().map(target).collect())
    }

    fn picked(backends: &Backends, times: usize) -> Vec<&str> {
        (0..times).filter_map(|_| backends.pick()).map(|backend| backend.target.host.as_str()).collect()
    }

    #[test]
    fn members_without_weights_take_turns_and_those_that_are_gone_are_left_out() {
        let all = backends(&[("a", 0, 0), ("b", 0, 0), ("c", 0, 0)]);
        assert_eq!(picked(&all, 4), ["a", "b", "c", "a"]);
        all.all[1].set_active(false);
        let next = picked(&all, 4);
        assert!(next.iter().all(|host| *host != "b") && next.contains(&"a") && next.contains(&"c"), "{next:?}");
        assert_eq!(all.inactive().count(), 1);
        all.all.iter().for_each(|backend| backend.set_active(false));
        assert!(all.pick().is_none());
    }

    #[test]
    fn the_best_priority_is_served_first() {
        let all = backends(&[("second", 2, 5), ("first", 1, 0), ("third", 3, 0)]);
        assert_eq!(picked(&all, 3), ["first"; 3]);
        all.all[1].set_active(false);
        assert_eq!(picked(&all, 3), ["second"; 3]);
    }

    #[test]
    fn connections_follow_weights() {
        let all = backends(&[("light", 0, 1), ("heavy", 0, 9), ("none", 0, 0)]);
        let picked = picked(&all, 10_000);
        let share = |host: &str| picked.iter().filter(|picked| **picked == host).count();
        assert!((500..1500).contains(&share("light")) && (8000..9500).contains(&share("heavy")));
        assert!((1..500).contains(&share("none")), "it gets few, but not none");
    }
}
