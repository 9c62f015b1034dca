//! Turns what Kubernetes and the members say into a [`World`](crate::plan::World).

mod assemble;
mod certificates;
mod nodes;
mod pods;
mod snapshot;
mod surroundings;
mod volumes;

pub use assemble::{Recollection, assemble};
pub use certificates::{Papers, followed};
pub use pods::{phase, ready};
pub use snapshot::{ObserveError, Snapshot};
pub use surroundings::{belongs, requests};
