//! The differences that are known and accepted, each with its reason. The one place to add to.

use super::compare::Difference;
use super::step::Step;

/// A difference that is right as it is.
pub struct Known {
    /// Why Keelson does not do what etcd does, for whoever wonders whether it should.
    pub reason: &'static str,
    pub is: fn(&Step, &Difference) -> bool,
}

pub const KNOWN: &[Known] = &[];

/// Breaking a rule is never known, only differing from etcd is.
pub fn is_known(step: &Step, difference: &Difference) -> bool {
    let sound = difference.left.flaws().is_empty() && difference.right.flaws().is_empty();
    sound && KNOWN.iter().any(|known| (known.is)(step, difference))
}
