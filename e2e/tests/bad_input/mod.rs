//! Whatever a client sends, the answer is etcd's or the connection ends; memory stays bounded, other
//! clients are served as before, nothing is lost and nothing panics.

mod calls;
mod common;
mod files;
mod floods;
mod frames;
mod full_disk;
mod half;
mod idle;
mod limits;
mod messages;
mod ports;
mod slow_log;
mod unread;
mod untaken;
