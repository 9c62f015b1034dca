//! The differential oracle: the same random requests to two servers, and every answer compared.
//!
//! etcd itself is the specification. A seeded [`generate`]d sequence of [`step`]s, valid and
//! invalid, goes one step at a time to both [`side`]s; [`compare`] looks at every field of the two
//! answers, after each side has replaced what no two servers can have in common. A difference is
//! [`shrink`]ed to a short [`script`] that can be replayed.

pub mod campaign;
pub mod compare;
pub mod generate;
pub mod history;
pub mod known;
mod lagging;
pub mod lease_names;
pub mod normal;
pub mod outcome;
pub mod pair;
pub mod play;
pub mod script;
pub mod settle;
pub mod shrink;
pub mod side;
pub mod step;
pub mod watching;
