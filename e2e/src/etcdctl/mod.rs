//! etcd's command line against two servers: what a user types must print the same on both.

pub mod more;
pub mod normal;
pub mod run;
pub mod table;
pub mod users;
