//! Runs clusters of keelson members on Kubernetes.
//!
//! Observe → plan → act: [`api`] says what may be asked for.

pub mod api;
