//! The commands, one file each; those with many parts have a folder.

mod alarm;
mod auth;
mod backup;
mod check;
mod compaction;
mod completion;
mod defrag;
mod del;
mod downgrade;
mod elect;
mod endpoint;
mod get;
mod help;
mod lease;
mod lock;
mod make_mirror;
mod member;
mod move_leader;
mod options;
mod put;
mod restore;
mod role;
mod signal;
mod snapshot;
mod txn;
mod user;
mod version;
mod watch;

use crate::cli::{Command, GLOBAL, PROGRAM};

pub static ROOT: Command =
    Command::new(PROGRAM, "", "A command line client for keelson and etcd.").inherited(GLOBAL).commands(COMMANDS);

const COMMANDS: &[&Command] = &[
    &alarm::COMMAND,
    &auth::COMMAND,
    &backup::COMMAND,
    &check::COMMAND,
    &compaction::COMMAND,
    &completion::COMMAND,
    &defrag::COMMAND,
    &del::COMMAND,
    &downgrade::COMMAND,
    &elect::COMMAND,
    &endpoint::COMMAND,
    &get::COMMAND,
    &help::COMMAND,
    &lease::COMMAND,
    &lock::COMMAND,
    &make_mirror::COMMAND,
    &member::COMMAND,
    &move_leader::COMMAND,
    &options::COMMAND,
    &put::COMMAND,
    &restore::COMMAND,
    &role::COMMAND,
    &snapshot::COMMAND,
    &txn::COMMAND,
    &user::COMMAND,
    &version::COMMAND,
    &watch::COMMAND,
];
