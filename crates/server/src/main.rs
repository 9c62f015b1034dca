//! `keelson`: a store that speaks etcd's v3 API.

mod auto_compaction;
mod background;
mod bootstrap;
mod brief;
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
mod listen;
mod logging;
mod lookup;
mod member;
mod membership;
mod metrics;
mod notify;
mod overdue;
mod peer;
mod process;
mod proxy;
mod run;
mod services;
mod tls;
mod traces;
mod users;
mod version;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == "gateway").is_some() {
        return proxy::run(arguments);
    }
    match config::from_command_line(arguments) {
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
