//! Passwords from a terminal, which does not show them meanwhile.

use std::io::{self, BufRead, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::Failure;

/// Shows `prompt` and reads a line. Where stdin is no terminal there is nothing to hide.
pub fn ask(prompt: &str) -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::error(format!("failed during password entry: {e}"));
    let mut stdout = io::stdout();
    stdout.write_all(prompt.as_bytes()).and_then(|()| stdout.flush()).map_err(failed)?;
    let hidden = Hidden::start();
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    drop(hidden);
    stdout.write_all(b"\n").map_err(failed)?;
    read.map_err(failed)?;
    Ok(line.trim().to_owned())
}

/// Twice, so that a slip does not lock anybody out.
pub fn ask_twice(name: &str) -> Result<String, Failure> {
    let failed = |failure: Failure| Failure::args(format!("failed to ask password: {}", failure.text()));
    let first = ask(&format!("Password of {name}: ")).map_err(failed)?;
    if first.is_empty() {
        return Err(Failure::args("empty password"));
    }
    let second = ask(&format!("Type password of {name} again for confirmation: ")).map_err(failed)?;
    if first == second { Ok(first) } else { Err(Failure::args("given passwords are different")) }
}

/// The first word of stdin.
pub fn from_stdin() -> String {
    let mut line = String::new();
    // Nothing to read is an empty password, which the server judges.
    let _ = io::stdin().lock().read_line(&mut line);
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// While it lives the terminal shows nothing that is typed.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn start() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &silent).ok()?;
        Some(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // There is nobody to tell; the user sees that nothing is shown.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
