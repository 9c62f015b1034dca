//! Passwords from a terminal, which does not show them meanwhile.

use std::io::{self, BufRead, ErrorKind, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::exit::{BROKEN_OFF, Failure};

/// Shows `prompt` and reads a line. Where stdin is no terminal there is nothing to hide.
pub fn ask(prompt: &str) -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::error(format!("failed during password entry: {e}"));
    let mut stdout = io::stdout();
    stdout.write_all(prompt.as_bytes()).and_then(|()| stdout.flush()).map_err(failed)?;
    let hidden = Hidden::start();
    let read = line(&mut io::stdin().lock(), hidden.as_ref().and_then(Hidden::interrupt));
    drop(hidden);
    stdout.write_all(b"\n").map_err(failed)?;
    match read.map_err(failed)? {
        Some(line) => Ok(line.trim().to_owned()),
        None => Err(Failure::told(BROKEN_OFF)),
    }
}

/// The next line; nothing if it was broken off with `interrupt`.
fn line(input: &mut impl BufRead, interrupt: Option<u8>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let bytes = match input.fill_buf() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        let end = bytes.iter().position(|byte| *byte == b'\n' || Some(*byte) == interrupt);
        if end.is_some_and(|end| bytes[end] != b'\n') {
            return Ok(None);
        }
        let is_last = end.is_some() || bytes.is_empty();
        let length = end.unwrap_or(bytes.len());
        line.extend_from_slice(&bytes[..length]);
        input.consume(length + usize::from(end.is_some()));
        if is_last {
            return String::from_utf8(line).map(Some).map_err(|e| io::Error::new(ErrorKind::InvalidData, e));
        }
    }
}

/// Twice, so that a slip does not lock anybody out.
pub fn ask_twice(name: &str) -> Result<String, Failure> {
    let failed = |failure: Failure| match failure.message {
        Some(why) => Failure::args(format!("failed to ask password: {why}")),
        None => failure,
    };
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

/// While it lives the terminal shows nothing that is typed. Ctrl-C is a character then that ends a line: as a signal it
/// would end this process, and leave behind a terminal that shows nothing.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn start() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VEOL] = before.special_codes[SpecialCodeIndex::VINTR];
        tcsetattr(io::stdin(), OptionalActions::Now, &silent).ok()?;
        Some(Self { before })
    }

    /// What Ctrl-C is, if it is anything.
    fn interrupt(&self) -> Option<u8> {
        Some(self.before.special_codes[SpecialCodeIndex::VINTR]).filter(|code| *code != 0)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // There is nobody to tell; the user sees that nothing is shown.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_off_by_the_character_that_a_terminal_has_for_that() {
        let read = |mut input: &[u8], interrupt: Option<u8>| line(&mut input, interrupt).unwrap();
        assert_eq!(read(b"secret\nmore", Some(3)).as_deref(), Some("secret"));
        assert_eq!(read(b"no end", Some(3)).as_deref(), Some("no end"));
        assert_eq!(read(b"", Some(3)).as_deref(), Some(""));
        assert_eq!(read(b"sec\x03ret\n", Some(3)), None);
        assert_eq!(read(b"sec\x03ret\n", None).as_deref(), Some("sec\x03ret"));
    }
}
