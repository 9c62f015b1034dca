//! Lines for systemd's journal, in its own protocol: one datagram of fields for each line.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

const SOCKET: &str = "/run/systemd/journal/socket";

/// Sends each line to the journal; to stderr while that cannot be reached.
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    program: String,
}

impl Journal {
    /// Fails where no journal listens.
    pub fn open() -> io::Result<Self> {
        Self::at(SOCKET.into())
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(&path)?;
        let program = std::env::args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Not connected, so that a journal that has been restarted is found again.
        Ok(Self { socket: UnixDatagram::unbound()?, path, program })
    }
}

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let entry = entry(&String::from_utf8_lossy(line), &self.program);
        if self.socket.send_to(&entry, &self.path).is_err() {
            io::stderr().write_all(line)?;
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a line of either format says of itself.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Told {
    level: String,
    caller: String,
}

fn told(line: &str) -> Told {
    if line.starts_with('{') {
        return serde_json::from_str(line).unwrap_or_default();
    }
    let mut columns = line.split('\t').skip(1);
    let mut next = || columns.next().unwrap_or_default().to_owned();
    Told { level: next().to_lowercase(), caller: next() }
}

/// The fields that etcd sets, too: syslog's priority, the whole line, the folder of the source file, and the program.
fn entry(line: &str, program: &str) -> Vec<u8> {
    let line = line.trim_end_matches('\n');
    let told = told(line);
    let priority = match told.level.as_str() {
        "debug" => "7",
        "warn" => "4",
        "error" => "3",
        _ => "6",
    };
    let mut out = Vec::with_capacity(line.len() + 128);
    let folder = told.caller.rsplit_once('/').map_or(".", |(folder, _)| folder);
    for (name, value) in [("PRIORITY", priority), ("MESSAGE", line), ("PACKAGE", folder), ("SYSLOG_IDENTIFIER", program)] {
        field(&mut out, name, value);
    }
    out
}

/// A value of several lines is announced by its length.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_sent_with_its_level_and_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(Journal::at(path.clone()).is_err(), "nobody listens");
        let listener = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(path).unwrap();
        journal.program = "keelson".to_owned();
        let mut received = [0; 512];
        let mut arrived = |line: &str| {
            journal.write_all(line.as_bytes()).unwrap();
            let length = listener.recv(&mut received).unwrap();
            String::from_utf8(received[..length].to_vec()).unwrap()
        };
        let json = "{\"level\":\"warn\",\"ts\":\"t\",\"caller\":\"services/kv.rs:1\",\"msg\":\"m\"}";
        let fields = format!("PRIORITY=4\nMESSAGE={json}\nPACKAGE=services\nSYSLOG_IDENTIFIER=keelson\n");
        assert_eq!(arrived(&format!("{json}\n")), fields);
        let console = "t\tERROR\trun.rs:1\tm";
        let fields = format!("PRIORITY=3\nMESSAGE={console}\nPACKAGE=.\nSYSLOG_IDENTIFIER=keelson\n");
        assert_eq!(arrived(&format!("{console}\n")), fields);
    }

    #[test]
    fn a_message_of_two_lines_is_one_field() {
        let entry = entry("t\tINFO\ta/b.rs:1\tone\ntwo\n", "k");
        let length = "t\tINFO\ta/b.rs:1\tone\ntwo".len();
        let mut wanted = b"PRIORITY=6\nMESSAGE\n".to_vec();
        wanted.extend_from_slice(&(length as u64).to_le_bytes());
        wanted.extend_from_slice(b"t\tINFO\ta/b.rs:1\tone\ntwo\nPACKAGE=a\nSYSLOG_IDENTIFIER=k\n");
        assert_eq!(entry, wanted);
    }
}
