//! Members in network namespaces of their own, under load and under everything that can happen to them.
//!
//! [`network`] lays the cables and cuts them, [`slow`] delays and breaks off what passes. [`clients`] write and read
//! through all members and note each request in a [`record`], [`watchers`] watch over all faults. A seed decides
//! which [`faults`] come, and when ([`run`]). In the end [`check`] compares what everybody was told with the
//! history that the store itself tells, and porcupine looks for an order in which all answers are right.

pub mod check;
pub mod clients;
pub mod dial;
pub mod events;
pub mod faults;
pub mod linearizable;
pub mod network;
pub mod record;
pub mod run;
pub mod slow;
pub mod stall;
pub mod watchers;
