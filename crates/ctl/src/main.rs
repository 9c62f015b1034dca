//! keelsonctl: what etcdctl does, with the same commands, flags, output and exit codes, on keelson and on etcd.

mod cli;
mod client;
mod command;
mod exit;
mod go;
mod output;
mod password;

use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::cli::{Call, PROGRAM, Parsed, Wrong};
use crate::command::ROOT;
use crate::exit::Failure;

fn main() -> ExitCode {
    let words: Vec<Vec<u8>> = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let done = match words.first() {
        Some(first) if first == b"__complete" => complete(&words[1..]),
        _ => match cli::parse(&ROOT, &words) {
            Ok(Parsed::Help(path)) => output::out(cli::page(&path).as_bytes()),
            Ok(Parsed::Run(call)) => run(call),
            Err(wrong) => Err(tell(&wrong)),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message {
                eprintln!("Error: {message}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// One thread is enough for what one person asks.
fn run(call: Call) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::error(format!("no runtime can be started: {e}")))?;
    // Only what can be run is called.
    let command = call.path.last().and_then(|command| command.run);
    let done = command.map_or(Ok(()), |command| LocalSet::new().block_on(&runtime, command(call)));
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
    done
}

fn tell(wrong: &Wrong) -> Failure {
    eprintln!("Error: {}", wrong.message);
    match &wrong.usage {
        Some(path) => eprintln!("{}", cli::usage(path)),
        None => eprintln!("Run '{PROGRAM} --help' for usage."),
    }
    Failure::told(exit::ERROR)
}

/// Asked by the scripts of `completion`.
fn complete(words: &[Vec<u8>]) -> Result<(), Failure> {
    let words: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    cli::candidates(&ROOT, &words).into_iter().try_for_each(output::line)
}
