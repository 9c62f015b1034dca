//! Power cuts: everything that a process had not synced is taken from its files, bytes and names
//! alike. A preloaded library journals what the process does ([`shim`], [`journal`]); when it has
//! been killed, [`disk`] works out what a disk would still have, and [`rig`] puts that in its place.
//!
//! What counts as durable is what POSIX promises and no more: bytes once their file was synced, a
//! name once its directory was. That a sync of a new file also keeps its name, as on ext4, is not
//! relied on. What was not synced is lost, or kept in part: some first bytes of those that were appended
//! to each file, any sectors of those that were written over synced ones, as the log does it; some of the changes of
//! names, in order or not. Not modelled: a file that has its new
//! length but holes where bytes should be, which journaling file systems rule out for appended bytes;
//! bytes that decay after they were synced; a sync that fails.

pub mod disk;
pub mod journal;
pub mod rig;
pub mod shim;

pub use rig::Rig;
