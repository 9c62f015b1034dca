//! The Kubernetes that `e2e/node/up.sh` makes, used as people use it: with kubectl, Helm and a client of the store.

mod audit;
pub mod certificates;
mod kubectl;
mod load;
mod machine;
mod place;

pub use kubectl::{etcdctl, helm, kubectl};
pub use load::{LONGEST_GAP, Load, MOST_RETRIES, Report};
pub use machine::Lost;
pub use place::{LIMIT, LOOK, Place, install};

/// Printed by tests, for the table in e2e/README.md.
pub fn figure(what: &str, value: impl std::fmt::Display) {
    println!("figure: {what}: {value}");
}
