//! `keelson`: a store that speaks etcd's v3 API.

mod background;
mod bootstrap;
mod config;
mod conn;
mod corruption;
mod discovery;
mod disk;
mod exit;
mod files;
mod gateway;
mod grpc;
mod handover;
mod http;
mod lead;
mod lessor;
mod listen;
mod logging;
mod lookup;
mod member;
mod membership;
mod metrics;
mod overdue;
mod peer;
mod process;
mod run;
mod services;
mod tls;
mod users;
mod version;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match config::from_command_line(std::env::args_os().skip(1)) {
        Ok(config::Outcome::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(config::Outcome::Run(config)) => run::run(*config),
        Err(e) => {
            eprintln!("{e} (keelson --help lists all flags)");
            ExitCode::from(exit::USAGE)
        }
    }
}
