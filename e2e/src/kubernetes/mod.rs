//! A real kube-apiserver on the store under test: the client that Keelson exists for.
//!
//! [`worker`]s own disjoint sets of objects, write and read them through the API and note what was
//! acknowledged in a [`ledger`]. One [`watcher`] per kind of object follows all changes from events
//! alone and keeps a [`history`]. [`reader`]s take lists of every sort meanwhile. At the end the
//! history must be the ledger, change by change, and every list must be the history's state at the
//! list's own revision. [`traffic`] knows when requests may fail: while the store is down. [`past`] asks for
//! revisions that the apiserver has compacted, [`metrics`] what it used of the store.
//! [`steps`] are what every scenario has.

pub mod apiserver;
pub mod client;
pub mod history;
pub mod ledger;
pub mod load;
pub mod metrics;
pub mod object;
pub mod past;
pub mod reader;
pub mod steps;
pub mod traffic;
pub mod watcher;
pub mod worker;
