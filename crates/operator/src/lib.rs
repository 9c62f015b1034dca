//! Runs clusters of keelson members on Kubernetes.
//!
//! Observe → plan → act: [`api`] says what may be asked for, [`plan`] decides on one next action from what was observed.

pub mod api;
pub mod plan;
