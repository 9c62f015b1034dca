//! End-to-end tests: real server processes, driven from outside through the public API.
//!
//! [`server`] runs one server, etcd or Keelson, and cleans up after it. [`oracle`] plays the same
//! requests to two of them and reports the first answer that differs. [`etcdctl`] does the same
//! one level up, through etcd's own command line. [`durability`] kills servers under load and audits
//! what is left, [`power`] takes from their files what was not synced. [`chaos`] does worse to whole clusters. [`raw`] speaks to them as no
//! proper client does.

pub mod chaos;
pub mod cluster;
pub mod dns;
pub mod durability;
pub mod etcdctl;
pub mod kubernetes;
pub mod node;
pub mod oracle;
pub mod pki;
pub mod ports;
pub mod power;
pub mod preload;
pub mod program;
pub mod raw;
pub mod s3;
pub mod server;
pub mod small_disk;
pub mod wait;
