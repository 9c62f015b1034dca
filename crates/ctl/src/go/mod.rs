//! Values as Go reads and writes them. Scripts are written against etcdctl, and that is a Go program.

pub mod duration;
pub mod number;
pub mod quote;
pub mod size;
pub mod words;
