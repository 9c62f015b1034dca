//! Runs clusters of keelson members on Kubernetes.
//!
//! Observe → plan → act: [`api`] says what may be asked for, [`observe`] reads objects and [`store`] asks members,
//! [`plan`] decides on one next action, [`act`] does it, [`render`] knows what objects look like, [`pki`] makes certificates,
//! [`controller`] runs it all.

pub mod act;
pub mod api;
pub mod controller;
pub mod lease;
pub mod metrics;
pub mod observe;
pub mod pki;
pub mod plan;
pub mod render;
pub mod serve;
pub mod store;
