//! `help`: what a command does.

use super::ROOT;
use crate::cli::{self, Call, Command, Group};
use crate::exit::{ERROR, Failure};
use crate::output::out;

pub static COMMAND: Command =
    Command::new("help", "[command]", "Tells about a command").group(Group::Utility).run(|call| Box::pin(run(call)));

async fn run(call: Call) -> Result<(), Failure> {
    let mut path = vec![&ROOT];
    let mut command = &ROOT;
    for word in &call.args {
        let Some(found) = command.find(word) else {
            eprintln!("Unknown help topic {:?}", String::from_utf8_lossy(word));
            eprintln!("{}", cli::usage(&path));
            return Err(Failure::told(ERROR));
        };
        path.push(found);
        command = found;
    }
    out(cli::page(&path).as_bytes())
}
