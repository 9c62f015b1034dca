//! Members in network namespaces of their own, under load and under everything that can happen to them.
//!
//! [`network`] lays the cables and cuts them, [`slow`] delays and breaks off what passes; a preloaded library ([`shim`])
//! stalls a member's disk ([`stall`]) and sets its [`clock`]. [`clients`] write and read through all members and note
//! each request in a [`record`], [`watchers`] watch over all faults, [`upkeep`] compacts, defragments and keeps a lease.
//! A seed decides which [`faults`] come to the [`stage`], and when ([`run`]). In the end [`check`] compares what
//! everybody was told with the history that the store itself tells, and porcupine looks for an order in which all
//! answers are right.

pub mod check;
pub mod clients;
pub mod clock;
pub mod dial;
pub mod events;
pub mod faults;
pub mod linearizable;
pub mod network;
pub mod record;
pub mod run;
pub mod shim;
pub mod slow;
pub mod stage;
pub mod stall;
pub mod upkeep;
pub mod watchers;
