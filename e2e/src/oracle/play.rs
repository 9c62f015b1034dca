//! Plays steps to both sides at once and stops at the first difference.

use super::compare::{Difference, compare};
use super::generate::Generator;
use super::known::is_known;
use super::side::Side;
use super::step::Step;

/// Both sides, on servers that have seen the same requests so far.
pub struct Sides {
    pub left: Side,
    pub right: Side,
}

/// Where a sequence failed: `steps` ends with the step whose outcomes differ.
#[derive(Debug)]
pub struct Failure {
    pub steps: Vec<Step>,
    pub difference: Difference,
}

impl Sides {
    pub async fn play(&mut self, step: &Step) -> Option<Difference> {
        let (left, right) = futures::join!(self.left.play(step), self.right.play(step));
        compare(left, right).filter(|difference| !is_known(step, difference))
    }

    /// Plays a given sequence, followed by a look at all that its watches were told.
    pub async fn replay(&mut self, steps: &[Step]) -> Option<Failure> {
        let settle = [Step::Settle];
        for (index, step) in steps.iter().chain(&settle).enumerate() {
            if let Some(difference) = self.play(step).await {
                let steps = steps.iter().take(index + 1).cloned().collect();
                return Some(Failure { steps, difference });
            }
        }
        None
    }

    /// Plays `requests` generated steps. The generator sees where the left side stands, so that it
    /// can aim at revisions that are just there, just gone, or not there yet.
    pub async fn explore(
        &mut self,
        generator: &mut Generator,
        requests: usize,
        mut played: impl FnMut(&Step),
    ) -> Option<Failure> {
        let mut steps = Vec::with_capacity(requests + 1);
        loop {
            let scene = self.left.scene();
            let step = if steps.len() < requests { generator.next(scene) } else { Step::Settle };
            let outcome = self.play(&step).await;
            played(&step);
            steps.push(step);
            if let Some(difference) = outcome {
                return Some(Failure { steps, difference });
            }
            if steps.len() > requests {
                return None;
            }
        }
    }
}
