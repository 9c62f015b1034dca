//! Snapshots between keelson and etcd, in both directions: what one of them saves the other runs on.

mod common;
mod from_etcd;
mod keelsonctl;
mod limits;
mod to_etcd;
