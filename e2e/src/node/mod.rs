//! The Kubernetes that `e2e/node/up.sh` makes, used as people use it: with kubectl, Helm and a client of the store.

mod audit;
mod kubectl;
mod load;
mod machine;
mod place;

pub use kubectl::{etcdctl, helm, kubectl};
pub use load::{Load, Report};
pub use machine::Lost;
pub use place::{LIMIT, Place, install};

/// Printed by tests, for the table in e2e/README.md.
pub fn figure(what: &str, value: impl std::fmt::Display) {
    println!("figure: {what}: {value}");
}
