//! TLS: who is let in and who is not, as etcd decides it; certificates that are renewed under a running server; members
//! that trust each other by certificate.

mod cluster;
mod common;
mod files;
mod handshakes;
mod names;
mod renewal;
mod served;
